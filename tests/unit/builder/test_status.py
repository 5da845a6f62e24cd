# SPDX-License-Identifier: GPL-3.0-or-later
"""The disk itself is believed, then what is on record; neither is ever guessed at."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from builder import status as room
from builder.status import Status, copy_we_run_from, status
from core import hidden
from core.errors import StateUnreadable
from core.machine.attached import Way
from core.model.figures import RunFigures
from core.model.machine import Machine
from core.model.state import State
from core.record import Counters, Record
from core.settings import BackupSet, Settings
from grub import state as state_block
from tests.support.machines import GIB, MIB, blank, disk, machine, mount, part, primary

TXID = "ab" * 16
TAKEN = "2026-11-22T17:30:00+00:00"
CLEAN = State("clean", gen=3, taken=TAKEN, txid=TXID, slot="1A2B-3C4D")
RECORDED = BackupSet("system", "SER-sdb", "", "guid-b", "Disk", GIB, 4096, "c", "u", "v")
SETTINGS = Settings(sets=(RECORDED,))
RECORD = Record(
    "system", 2, TXID, "2026-11-20T00:00:00+00:00", RunFigures(1.0, 1, 1, 1, 0.1, "used"),
    Counters("boot", (("/", 1000),)),
)  # fmt: skip


class World:
    """What the disk, /var/lib/dpsr and the kernel answer."""

    def __init__(self) -> None:
        self.state: State | StateUnreadable = CLEAN
        self.record: Record | None = RECORD
        self.root = True
        self.asked: list[tuple[str, int]] = []

    def read_state(self, path: str, offset: int) -> State:
        self.asked.append((path, offset))
        if isinstance(self.state, State):
            return self.state
        raise self.state


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()
    monkeypatch.setattr(state_block, "read_state", made.read_state)
    monkeypatch.setattr(room, "read_record", lambda _name: made.record)
    monkeypatch.setattr(room, "read_counters", lambda _v: Counters("boot", (("/", 1500),)))
    monkeypatch.setattr(room, "is_ignored", lambda _dev: True)
    monkeypatch.setattr(room, "held_by", lambda _path: "")
    monkeypatch.setattr(room, "shape_now", lambda _machine, _known, _disk: ())
    monkeypatch.setattr("os.geteuid", lambda: 0 if made.root else 1000)
    return made


def here() -> Machine:
    return machine(primary(), blank())


def test_the_state_sector_of_the_recorded_disk_decides(world: World) -> None:
    found = status(here(), SETTINGS, "system")
    assert world.asked == [("/dev/sdb", 4096)]
    assert (found.state, found.generation) == ("clean", 3)
    assert found.taken == datetime(2026, 11, 22, 17, 30, tzinfo=UTC)
    assert found.running_from == "primary"
    assert found.hidden
    assert found.healthy
    assert found.written is not None
    assert found.written.size == 500
    assert found.sources["/"] == "/dev/sda2"


def gone_with(monkeypatch: pytest.MonkeyPatch, state: State | None) -> None:
    gone = hidden.away(Way("scsi", why=""), blank(guid="guid-b"), state)
    monkeypatch.setattr(room, "away_now", lambda _known: gone)


def test_a_detached_disk_is_as_it_was_last_seen(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone_with(monkeypatch, replace(CLEAN, gen=7))
    found = status(machine(primary()), SETTINGS, "system")
    assert (found.hidden, found.how, found.generation) == (True, "detached", 7)
    assert found.healthy
    assert world.asked == []
    gone_with(monkeypatch, replace(CLEAN, state="updating"))
    assert not status(machine(primary()), SETTINGS, "system").healthy


def test_one_that_is_in_sight_is_asked_whatever_is_on_record(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone_with(monkeypatch, replace(CLEAN, gen=7))
    monkeypatch.setattr(room, "is_ignored", lambda _dev: False)
    monkeypatch.setattr(room, "revealed_until", lambda: datetime.now(UTC).timestamp() + 60)
    found = status(here(), SETTINGS, "system")
    assert (found.hidden, found.how, found.generation) == (False, "", 3)
    assert found.revealed is not None
    monkeypatch.setattr(room, "revealed_until", lambda: datetime.now(UTC).timestamp() - 1)
    assert status(here(), SETTINGS, "system").revealed is None


def test_one_that_is_only_ignored_says_why(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "way_of", lambda _found: Way("none", why="of its neighbour"))
    found = status(here(), SETTINGS, "system")
    assert (found.hidden, found.how, found.why) == (True, "ignored", "of its neighbour")
    assert found.healthy


@pytest.mark.parametrize("phase", ["building", "updating"])
def test_an_unfinished_state_is_not_healthy(world: World, phase: str) -> None:
    world.state = State("building") if phase == "building" else replace(CLEAN, state="updating")
    found = status(here(), SETTINGS, "system")
    assert found.state == phase
    assert not found.healthy


def test_after_a_way_back_the_age_is_that_of_the_disk_and_no_amount_is_told(world: World) -> None:
    """The rescue system did it: on record is the newer backup, since which less was written."""
    world.record = replace(RECORD, generation=4, txid="cd" * 16)
    found = status(here(), SETTINGS, "system")
    assert (found.generation, found.healthy) == (3, True)
    assert found.taken == datetime(2026, 11, 22, 17, 30, tzinfo=UTC)
    assert found.written is None
    world.record = replace(RECORD, txid="cd" * 16)  # older than the disk: never too small
    assert status(here(), SETTINGS, "system").written is not None


def test_on_the_way_back_it_is_said_where_to(world: World) -> None:
    world.state = replace(CLEAN, state="rolling-back", to=2)
    found = status(here(), SETTINGS, "system")
    assert (found.state, found.to, found.written) == ("rolling-back", 2, None)
    assert not found.healthy


def test_without_the_disk_the_record_is_told_and_nothing_is_healthy(world: World) -> None:
    found = status(machine(primary()), SETTINGS, "system")
    assert (found.state, found.generation, found.disk) == ("clean", 2, None)
    assert not found.healthy
    assert world.asked == []


def test_a_disk_that_cannot_be_read_is_trouble(world: World) -> None:
    world.state = StateUnreadable("The state block is gone.")
    found = status(here(), SETTINGS, "system")
    assert found.trouble == "The state block is gone."
    assert not found.healthy


def test_two_disks_that_fit_are_trouble(world: World) -> None:
    twin = replace(blank("/dev/sdc"), serial="SER-sdb")
    found = status(machine(primary(), blank(), twin), SETTINGS, "system")
    assert "could be any of" in found.trouble
    assert found.disk is None
    assert not found.healthy


def test_without_root_the_record_is_told_and_said_to_be_one(world: World) -> None:
    world.root = False
    found = status(here(), SETTINGS, "system")
    assert world.asked == []
    assert (found.asked, found.generation, found.state) == (False, 2, "clean")
    assert found.healthy


def test_nothing_recorded_is_no_copy(world: World) -> None:
    world.record = None
    for settings, name in ((Settings(), "system"), (SETTINGS, "other")):
        found = status(here(), settings, name)
        assert (found.state, found.recorded, found.taken) == ("none", None, None)
        assert not found.healthy


def test_recorded_but_never_finished_is_no_copy_without_root(world: World) -> None:
    world.record = None
    world.root = False
    assert status(here(), SETTINGS, "system").state == "none"


def from_the_copy() -> Machine:
    slots = (
        part("/dev/sda2", 2, MIB, GIB, "vfat", name="dpsr-control"),
        part("/dev/sda3", 3, GIB, GIB, "ext4", name="dpsr-slot-root"),
    )
    return machine(disk("/dev/sda", 9 * GIB, *slots, guid="guid-b"), mounts=(mount(slots[1], "/"),))


def test_running_from_the_copy_is_seen_by_the_name_of_the_partition(world: World) -> None:
    assert copy_we_run_from(here()) is None
    found = status(from_the_copy(), SETTINGS, "system")
    assert found.running_from == "dpsr"
    assert world.asked == [("/dev/sda", 4096)]
    assert found.generation == 3
    assert found.written is None


def test_a_copy_that_does_not_know_its_own_disk_asks_the_control_partition(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "_from_control", lambda _disk: CLEAN)
    world.record = None
    found: Status = status(from_the_copy(), Settings(), "system")
    assert (found.running_from, found.generation, found.recorded) == ("dpsr", 3, None)
    assert found.disk is not None
    assert found.healthy
