# SPDX-License-Identifier: GPL-3.0-or-later
"""What a drill boots, with which check, and what is kept of it."""

from dataclasses import replace
from pathlib import Path

import pytest

from core import record
from core.errors import ImageUnusable
from core.model.figures import RunFigures
from core.settings import BackupSet, Settings
from images.drill import Order, Outcome, is_secure
from images.signs import Verdict
from images.vm import MAX_CHECK
from recovery import drilled
from tests.support.machines import GIB, blank, machine, primary

OURS = blank("/dev/sdb", guid="guid-b")
KNOWN = BackupSet("system", "SER-sdb", "", "guid-b", "Disk", GIB, 4096, "c", "u", "v")
CHOSEN = Settings(sets=(KNOWN,), drill_check="/root/check")


def test_a_recorded_disk_brings_its_check_and_the_machines_secure_boot() -> None:
    here = replace(machine(primary(), OURS), secure_boot=True)
    found = drilled.recorded(here, OURS, CHOSEN)
    assert found.known == KNOWN
    assert (found.check, found.secure, found.bus) == ("/root/check", True, OURS.bus)


def test_any_other_disk_has_neither() -> None:
    other = blank("/dev/sdc")
    here = replace(machine(primary(), OURS, other), secure_boot=True)
    found = drilled.recorded(here, other, CHOSEN)
    assert (found.known, found.check, found.secure) == (None, "", False)
    assert found.image == Path(other.path)


def test_what_no_virtual_machine_has_becomes_virtio() -> None:
    here = machine(primary(), replace(OURS, bus="usb"))
    assert drilled.recorded(here, here.disks[1], CHOSEN).bus == "virtio"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read"),
        (b"echo", "is no script"),
        (b"#!" + b"x" * MAX_CHECK, "can be brought into a guest"),
    ],
)
def test_a_check_that_cannot_be_run_is_refused(
    tmp_path: Path, content: bytes | None, said: str
) -> None:
    path = tmp_path / "check"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ImageUnusable, match=said):
        drilled.check_of(str(path))


def test_a_check_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "check").write_bytes(b"#!/bin/sh\n\xff")
    assert drilled.check_of(str(tmp_path / "check")) == b"#!/bin/sh\n\xff"
    assert drilled.check_of("") == b""


@pytest.mark.parametrize(
    ("wish", "here", "signed", "secure"),
    [
        (None, True, True, True),
        (None, False, True, False),
        (None, True, False, False),
        (True, False, False, True),
        (False, True, True, False),
    ],
)
def test_when_it_is_done_under_secure_boot(
    wish: bool | None, here: bool, signed: bool, secure: bool
) -> None:
    order = Order(Path("x"), secure=wish, secure_here=here)
    assert is_secure(order, "uefi", signed=signed) is secure
    assert not is_secure(order, "bios", signed=signed)


def test_the_last_one_is_kept_and_the_rest_of_the_record_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record.read_record, "__defaults__", (tmp_path,))
    monkeypatch.setattr(record.write_record, "__defaults__", (tmp_path,))
    outcome = Outcome(Verdict.EMERGENCY, "it ended", 61.26, "bios", accelerated=False)
    what = drilled.Drillable(Path("/dev/sdb"), known=KNOWN)
    drilled.keep(what, outcome)
    assert record.read_record("system") is None, "there is nothing to add it to"
    before = record.Record("system", 2, "ab", "", RunFigures(1.0, 1, 1, 1, 0.1, "used"))
    record.write_record(before)
    drilled.keep(what, outcome)
    kept = record.read_record("system")
    assert kept is not None
    assert kept.drill is not None
    assert (kept.drill.passed, kept.drill.seconds) == (False, 61.3)
    assert replace(kept, drill=None) == before
    drilled.keep(drilled.Drillable(Path("an.img")), outcome)
