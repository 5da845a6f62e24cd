# SPDX-License-Identifier: GPL-3.0-or-later
"""The disks are there within a run, and hidden after it, however it ends."""

import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from builder import detach, hiding
from builder.hiding import shown
from core import hidden, settings
from core.errors import (
    AlreadyRunning,
    CopyUnreachable,
    DiskInUse,
    DiskMounted,
    ShapeChanged,
    ToolError,
)
from core.hidden import Away
from core.machine.attached import Way
from core.model.machine import Disk, Machine
from core.settings import BackupSet, Settings
from core.signals import Ended
from recovery import drilled
from tests.support.machines import GIB, blank, machine, primary
from tests.support.vault_disk import Silent

WAY = Way("scsi", "/sys/x/delete", "/sys/y/scan", "0 0 0", "0000:03:00.0")


def known(name: str, disk: Disk) -> BackupSet:
    return BackupSet(name, disk.serial, "", disk.guid, "Disk", GIB, 4096, "c", "u", "v")


class World:
    """Two DPSR disks, detached. What is done to them is written down."""

    def __init__(self) -> None:
        self.disks = {
            name: blank(f"/dev/sd{letter}", guid=f"guid-{name}")
            for name, letter in (("system", "b"), ("night", "c"))
        }
        self.settings = Settings(sets=tuple(known(*item) for item in self.disks.items()))
        self.away = set(self.disks)
        self.pulled: set[str] = set()
        self.copy = False
        self.busy: ToolError | None = None
        self.did: list[str] = []
        self.lists: list[list[str]] = []
        """The sets that /etc/dpsr/hidden was written for."""

    def look(self) -> Machine:
        there = (disk for name, disk in self.disks.items() if name not in self.away)
        return machine(primary(), *there)

    def detach(self, _machine: Machine, disk: Disk, of: BackupSet) -> Way:
        if self.busy is not None:
            raise self.busy
        assert disk == self.disks[of.name]
        self.away.add(of.name)
        self.did.append(f"hide {of.name}")
        return WAY

    def bring_back(self, of: BackupSet, gone: Away) -> Disk:
        assert gone.way == WAY
        if of.name in self.pulled:
            raise CopyUnreachable(f"{of.name} did not come back")
        self.away.remove(of.name)
        self.did.append(f"show {of.name}")
        return self.disks[of.name]


class Heard(Silent):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, sentence: str) -> None:
        self.warnings.append(sentence)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> World:
    made = World()

    def put(owner: object, **what: Any) -> None:
        for name, value in what.items():
            monkeypatch.setattr(owner, name, value)

    put(hiding, look=made.look, clean_leftovers=list, is_ignored=lambda _dev: False)
    put(hiding, copy_we_run_from=lambda m: m.disks[0] if made.copy else None)
    put(hiding, LOCK=tmp_path / "lock", _BLOCK=tmp_path / "block")
    put(detach, detach=made.detach, bring_back=made.bring_back)
    put(
        detach,
        set_read_only=lambda disk, wanted: made.did.append(
            f"{disk.path} {'ro' if wanted else 'rw'}"
        ),
        ignore=lambda disk: made.did.append(f"ignore {disk.path}"),
    )
    put(settings, load=lambda: made.settings)
    put(hidden, REVEALED=tmp_path / "revealed")
    put(hidden, write_list=lambda sets: made.lists.append([each.name for each in sets]))
    put(hidden, read_away=lambda of: hidden.away(WAY, made.disks[of.name], None))
    put(hidden, came_back=lambda _name: None)
    put(time, sleep=lambda _seconds: (tmp_path / "block/sdb").unlink(missing_ok=True))
    monkeypatch.setattr("os.geteuid", lambda: 0)
    (tmp_path / "block").mkdir()
    return made


def test_only_the_one_that_is_needed_is_brought_back(world: World) -> None:
    with shown(Silent(), "system"):
        assert world.away == {"night"}
    assert world.did == ["show system", "hide system"]


def test_all_of_them_where_anyone_may_be_meant(world: World) -> None:
    with shown(Silent()):
        assert not world.away
    assert world.away == {"system", "night"}


@pytest.mark.parametrize("reason", [ShapeChanged("x"), Ended(15), ZeroDivisionError()])
def test_hidden_again_whatever_goes_wrong(world: World, reason: BaseException) -> None:
    with pytest.raises(type(reason)), shown(Silent(), "system", leave=True):
        raise reason
    assert world.did == ["show system", "hide system"]


def test_left_for_the_one_who_comes_next(world: World) -> None:
    with shown(Silent(), "system", leave=True):
        pass
    assert world.did == ["show system"]


def test_what_came_to_be_known_meanwhile_is_hidden(world: World) -> None:
    both = world.settings
    world.settings = Settings()
    with shown(Silent()):
        world.away.clear()
        world.settings = both
    assert world.did == ["hide system", "hide night"]
    assert world.lists[-1] == ["system", "night"]


def test_nothing_is_hidden_where_that_is_not_wanted(world: World) -> None:
    world.settings = Settings(hide=False, sets=world.settings.sets)
    with shown(Silent(), "system"):
        pass
    assert world.did == ["show system"]
    assert world.lists == [[]]


def test_what_was_hidden_and_is_not_to_be_comes_into_sight(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.settings = Settings(hide=False, sets=world.settings.sets)
    monkeypatch.setattr(hiding, "is_ignored", lambda _dev: True)
    monkeypatch.setattr(detach, "ask_udev", lambda disk: world.did.append(f"ask {disk.path}"))
    with shown(Silent(), "system"):
        pass
    assert world.did == ["show system", "ask /dev/sdb"]
    assert hiding.hide() == {}
    assert world.did[2:] == ["ask /dev/sdb"]


def test_on_a_copy_nothing_is_done(world: World) -> None:
    world.copy = True
    with shown(Silent()):
        pass
    assert world.did == []
    assert hiding.hide() == {}


def test_one_that_was_pulled_out_is_missed(world: World) -> None:
    world.pulled = {"system"}
    with pytest.raises(CopyUnreachable), shown(Silent(), "system"):
        pytest.fail("it went on")


def test_but_not_when_another_may_be_meant(world: World) -> None:
    world.pulled = {"system"}
    heard = Heard()
    with shown(heard):
        assert world.away == {"system"}
    assert heard.warnings == ["system did not come back"]


def test_that_it_cannot_be_hidden_is_no_failure_of_the_run(world: World) -> None:
    world.busy = DiskMounted("/dev/sdb", "/mnt")
    heard = Heard()
    with shown(heard, "system"):
        pass
    assert "stays in sight" in heard.warnings[0]
    assert "/mnt" in heard.warnings[0]


def test_one_that_is_in_use_keeps_no_other_in_sight(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def one_is_busy(there: Machine, disk: Disk, of: BackupSet) -> Way:
        if of.name == "system":
            raise DiskMounted(disk.path, "/mnt")
        return world.detach(there, disk, of)

    monkeypatch.setattr(detach, "detach", one_is_busy)
    with shown(Heard()):
        pass
    assert world.away == {"night"}
    world.away.clear()
    with pytest.raises(DiskMounted):
        hiding.hide()
    assert world.away == {"night"}


def test_revealed_it_stays_and_is_read_only_after_a_run(world: World) -> None:
    hidden.REVEALED.write_text(f"{time.time() + 60:.0f}")
    world.away.clear()
    with shown(Silent(), "system"):
        pass
    assert world.did == ["/dev/sdb ro"]
    assert hiding.hide() == {"system": WAY, "night": WAY}
    assert not hidden.REVEALED.exists()


def test_reveal_says_so_before_the_disk_comes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[bool] = []

    def bring_back(of: BackupSet, gone: Away) -> Disk:
        told.append(hidden.REVEALED.exists())
        return world.bring_back(of, gone)

    monkeypatch.setattr(detach, "bring_back", bring_back)
    assert hiding.reveal("system", 60).path == "/dev/sdb"
    assert told == [True]
    assert world.did == ["show system", "/dev/sdb ro"]
    assert time.time() + 50 < hidden.revealed_until(hidden.REVEALED) < time.time() + 70


def test_a_reveal_that_fails_leaves_no_mark(world: World) -> None:
    world.pulled = {"system"}
    with suppress(CopyUnreachable):
        hiding.reveal("system", 60)
    assert not hidden.REVEALED.exists()


def test_two_paths_to_one_disk_are_left_attached(world: World) -> None:
    world.away.clear()
    world.disks["night"] = blank(
        "/dev/sdc", guid="guid-system", serial=world.disks["system"].serial
    )
    assert hiding.hide() == {"system": hiding.TWICE}
    assert world.did == ["ignore /dev/sdb", "ignore /dev/sdc"]


def test_a_drill_brings_it_back(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drilled, "LOCK", tmp_path / "drill-lock")
    monkeypatch.setattr("builder.target.look", world.look)
    monkeypatch.setattr("builder.target.read_table_again", lambda _: None)
    with drilled.held("", "system", Silent()) as what:
        assert str(what.image) == "/dev/sdb"
        assert world.away == {"night"}
    assert world.did == ["show system", "hide system"]


@pytest.mark.parametrize("guid", ["", "guid-of-another"])
def test_a_disk_that_took_its_place_is_left_alone(world: World, guid: str) -> None:
    world.away.clear()
    world.disks["system"] = blank("/dev/sdb", guid=guid)
    assert hiding.hide() == {"night": WAY}
    with shown(Silent(), "night"):
        pass
    assert world.did == ["hide night", "show night", "hide night"]


def test_the_unit_waits_for_the_end_of_a_run(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "block/sdb").touch()
    tries: list[str] = []

    def busy(_path: Path, what: str) -> None:
        tries.append(what)
        raise AlreadyRunning("dpsr update")

    monkeypatch.setattr(hiding, "lock", busy)
    hiding.hide_once_free("sdb")  # the run hides it itself while the unit sleeps
    assert tries == ["hide"]
    assert world.did == []


def test_the_unit_hides_what_a_killed_run_has_left(world: World, tmp_path: Path) -> None:
    (tmp_path / "block/sdb").touch()
    world.away.clear()
    hiding.hide_once_free("sdb")
    assert world.did == ["hide system", "hide night"]


def test_the_unit_waits_for_programs_that_a_killed_run_had_started(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "block/sdb").touch()
    world.away.clear()
    world.busy = DiskInUse("/dev/sdb")
    monkeypatch.setattr(time, "sleep", lambda _seconds: setattr(world, "busy", None))
    hiding.hide_once_free("sdb")
    assert world.did == ["hide system", "hide night"]


def test_but_not_for_ever(
    world: World,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "block/sdb").touch()
    world.away.clear()
    world.busy = DiskInUse("/dev/sdb")
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)
    hiding.hide_once_free("sdb")
    assert "stays in sight" in capsys.readouterr().err


def test_the_unit_leaves_what_is_revealed(world: World, tmp_path: Path) -> None:
    (tmp_path / "block/sdb").touch()
    world.away.clear()
    hidden.REVEALED.write_text(f"{time.time() + 60:.0f}")
    hiding.hide_once_free("sdb")
    assert world.did == []
