# SPDX-License-Identifier: GPL-3.0-or-later
"""What is on record of hidden disks: the list that the udev rule reads, and the way back."""

from dataclasses import replace
from pathlib import Path

import pytest

from core import hidden
from core.machine.attached import Way
from core.model.state import State
from core.settings import BackupSet
from tests.support.machines import GIB, blank

KNOWN = BackupSet("system", "WD WX 12", "", "AB-guid", "Disk", GIB, 4096, "c", "u", "v")
WAY = Way("scsi", "/sys/x/delete", "/sys/class/scsi_host/host2/scan", "0 0 0", "0000:03:00.0")
STATE = State("clean", gen=3, taken="2026-11-22T17:30:00+00:00", txid="ab" * 16, slot="1A2B-3C4D")
DISK = blank(guid="AB-guid")


def lines(*sets: BackupSet) -> list[str]:
    text = hidden.listing(sets).splitlines()
    return [line for line in text if not line.startswith("#")]


def test_the_list_has_three_words_for_each_disk() -> None:
    wwn = replace(KNOWN, serial="", wwn="0x5000c500a1b2c3d4")
    assert lines(KNOWN, wwn) == ["ab-guid WD_WX_12 -", "ab-guid - 0x5000c500a1b2c3d4"]


def test_no_disk_no_list(tmp_path: Path) -> None:
    path = tmp_path / "dpsr/hidden"
    assert hidden.write_list([KNOWN], path)
    assert not hidden.write_list([KNOWN], path)
    assert path.read_text() == hidden.listing([KNOWN])
    assert hidden.write_list([], path)
    assert not path.exists()
    assert not hidden.write_list([], path)


def test_the_way_back_is_kept_twice(tmp_path: Path) -> None:
    run, kept = tmp_path / "run", tmp_path / "lib/hidden"
    kept.parent.mkdir()
    gone = hidden.away(WAY, DISK, STATE)
    hidden.write_away("system", gone, run, kept)
    assert hidden.read_away(KNOWN, run, kept) == gone
    (run / "system.json").unlink()
    assert hidden.read_away(KNOWN, run, kept) == gone
    hidden.forget_away("system", run, kept)
    assert hidden.read_away(KNOWN, run, kept) is None


def test_early_in_a_start_one_place_is_enough(tmp_path: Path) -> None:
    gone = hidden.away(WAY, DISK, None)
    hidden.write_away("system", gone, tmp_path / "run", tmp_path / "lib/hidden")
    assert hidden.read_away(KNOWN, tmp_path / "run") == gone
    assert not (tmp_path / "lib").exists()


def test_of_another_disk_it_says_nothing(tmp_path: Path) -> None:
    hidden.write_away("system", hidden.away(WAY, DISK, STATE), tmp_path)
    assert hidden.read_away(replace(KNOWN, guid="other"), tmp_path) is None


def test_nor_from_another_version_or_boot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = hidden.away(WAY, DISK, STATE)
    for made in (replace(gone, version=2), replace(gone, boot="another")):
        monkeypatch.setattr(hidden, "AWAY", tmp_path)
        monkeypatch.setattr(hidden, "KEPT", tmp_path)
        hidden.write_away("system", made, tmp_path)
        assert hidden.away_now(KNOWN) is None
    hidden.write_away("system", gone, tmp_path)
    assert hidden.away_now(KNOWN) == gone
    (tmp_path / "system.json").write_text("[1]")
    assert hidden.away_now(KNOWN) is None


def test_one_that_is_back_is_known_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hidden, "AWAY", tmp_path / "run")
    monkeypatch.setattr(hidden, "KEPT", tmp_path / "hidden")
    gone = hidden.away(WAY, DISK, STATE)
    hidden.write_away("system", gone)
    hidden.came_back("system")
    assert hidden.away_now(KNOWN) is None
    assert hidden.read_away(KNOWN) == gone
    hidden.forget_away("system")
    assert hidden.read_away(KNOWN) is None


def test_until_when_it_is_revealed(tmp_path: Path) -> None:
    path = tmp_path / "revealed"
    assert hidden.revealed_until(path) == 0
    path.write_text("1795368600\n")
    assert hidden.revealed_until(path) == 1795368600
    path.write_text("soon\n")
    assert hidden.revealed_until(path) == 0
