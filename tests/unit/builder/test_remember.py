# SPDX-License-Identifier: GPL-3.0-or-later
"""What is on record is trusted of the backup that it was written for, and of no other."""

from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from builder import boots, remember
from builder.boots import Boot
from core import record
from core.model.copy import Fixups
from core.model.figures import RunFigures
from core.model.manifest import Manifest
from core.record import Counters, Drill, Record, read_record, write_record

FIGURES = RunFigures(9.0, 1, 1, 1, 0.1, "ext4")
NAMES = {"/": "root", "/home": "home"}
VOLUMES = tuple(
    SimpleNamespace(mountpoint=place, dev=(8, 1), identity=SimpleNamespace(uuid=f"uuid-{name}"))
    for place, name in NAMES.items()
)


def planned(*resting: str) -> Any:
    return SimpleNamespace(
        name="system", volumes=VOLUMES, resting=resting,
        slot_of=lambda volume: SimpleNamespace(name=NAMES[volume.mountpoint]),
    )  # fmt: skip


PLAN = planned()
NOTED = (
    Boot("before", clean=True, ended=True, mounts=(("uuid-home", 3), ("uuid-root", 6))),
    Boot("boot", clean=True, ended=False, mounts=(("uuid-home", 4), ("uuid-root", 7))),
)
DRILL = Drill(passed=True, seconds=77.0, at="2026-11-22T18:00:00+00:00")


def manifest(number: int) -> Manifest:
    return Manifest(
        "system", f"{number:032x}", number, "", "", f"2026-11-{number:02}T18:00:00+00:00", "server",
        "6.12.0-1-amd64", "guid", (), (), (Fixups("root", (), ()), Fixups("home", (), ())), FIGURES,
    )  # fmt: skip


def recorded(number: int) -> Record:
    made = manifest(number)
    return Record(
        "system", number, made.txid, made.taken, FIGURES,
        Counters("boot", (("/", 1000), ("/home", 50))), DRILL, (("home", 4), ("root", 7)),
    )  # fmt: skip


@dataclass
class Kept:
    folder: Path

    @property
    def now(self) -> Record:
        found = read_record("system", self.folder)
        assert found is not None
        return found


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kept:
    """Generation 3 is on record."""
    for function in (read_record, write_record):
        monkeypatch.setattr(function, "__defaults__", (tmp_path,))
    monkeypatch.setattr(remember, "boot_id", lambda: "boot")
    monkeypatch.setattr(boots, "read", lambda: NOTED)
    write_record(recorded(3))
    return Kept(tmp_path)


def mounts(last: Manifest) -> set[int | None]:
    return {each.mounts for each in remember.earlier(PLAN, last, full=False, digested=()).values()}


@pytest.mark.usefixtures("kept")
def test_only_of_its_own_backup() -> None:
    assert mounts(manifest(3)) == {7, 4}
    assert mounts(manifest(2)) == {None}


@pytest.mark.usefixtures("kept")
def test_a_restart_in_order_is_no_crash() -> None:
    write_record(replace(recorded(3), counters=Counters("before", ()), mounts=(("root", 6),)))
    assert mounts(manifest(3)) == {7, None}
    write_record(replace(recorded(3), counters=Counters("unknown", ()), mounts=(("root", 6),)))
    assert mounts(manifest(3)) == {None}


def test_what_rests_is_known_across_a_restart(kept: Kept) -> None:
    write_record(replace(recorded(3), counters=Counters("before", ()), mounts=(("root", 6),)))
    instant: Any = SimpleNamespace(mounts={"home": 4})
    remember._ran(planned("/"), manifest(4), instant, Counters("boot", ()), manifest(3).txid)
    assert dict(kept.now.mounts) == {"home": 4, "root": 7}


def test_after_a_way_back_nothing_is_trusted(kept: Kept) -> None:
    assert remember.went_back(manifest(2)) == []
    assert (kept.now.generation, kept.now.txid) == (2, manifest(2).txid)
    assert (kept.now.taken, kept.now.counters, kept.now.mounts) == (manifest(2).taken, None, ())
    assert kept.now.drill == DRILL
    assert mounts(manifest(2)) == mounts(manifest(3)) == {None}


@pytest.mark.parametrize("to", [2, 3])
def test_nor_is_a_record_once_a_way_back_has_begun(kept: Kept, to: int) -> None:
    """Generation 4 was never recorded, and is gone back from to 3; or the disk ends it without us.

    Then what this machine has on record is newer than the disk, and no commit was lost.
    """
    remember.going_back(manifest(to))
    assert mounts(manifest(3)) == {None}
    assert kept.now == replace(recorded(3), counters=None, mounts=())


def test_a_record_that_cannot_be_written_is_a_warning(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: Record) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(record, "write_record", full)
    [warning] = remember.went_back(manifest(2))
    assert "No space left" in warning
    assert kept.now == recorded(3)


@pytest.mark.parametrize(("last", "known"), [(3, True), (2, False)])
def test_what_rests_keeps_what_is_known_of_it(kept: Kept, last: int, known: bool) -> None:
    """After a way back by the rescue system the record is still that of the newer backup."""
    plan = planned("/")
    instant: Any = SimpleNamespace(mounts={"home": 5})
    remember._ran(
        plan, manifest(9), instant, Counters("boot", (("/", 9000), ("/home", 60))),
        manifest(last).txid,
    )  # fmt: skip
    assert dict(kept.now.mounts) == ({"home": 5, "root": 7} if known else {"home": 5})
    assert kept.now.counters is not None
    assert dict(kept.now.counters.written) == {"/": 1000 if known else 0, "/home": 60}


def test_another_boot_knows_nothing_of_what_rests(kept: Kept) -> None:
    write_record(replace(recorded(3), counters=Counters("other", (("/", 5),))))
    plan = planned("/")
    instant: Any = SimpleNamespace(mounts={"home": 5})
    now = Counters("boot", (("/", 9000),))
    remember._ran(plan, manifest(4), instant, now, manifest(3).txid)
    assert dict(kept.now.mounts) == {"home": 5}
    assert kept.now.counters == Counters("boot", (("/", 0),))
