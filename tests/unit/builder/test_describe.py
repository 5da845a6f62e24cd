# SPDX-License-Identifier: GPL-3.0-or-later
"""What a manifest keeps of volumes that were not copied this time."""

from dataclasses import replace

import pytest

from builder import control
from builder.plan.recorded import copy_only, plan_update
from core.model.copy import Fixups, Slot
from core.model.live import Instant
from core.model.manifest import SlotState
from tests.support.machines import blank, fstab, machine, primary
from tests.unit.builder.plan.test_recorded import prepared

THEN = "2026-01-01T00:00:00+00:00"
NOW = 1_800_000_000.0
INSTANT = Instant(NOW, 1, 0.1, 1, 1, {}, {}, detectors={"root": "ext4"})


@pytest.fixture(autouse=True)
def no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def seen(_plan: object, slot: Slot) -> SlotState:
        return SlotState(slot.name, slot.mountpoint, slot.fstype, slot.number, 0, 1, "new", "new")

    monkeypatch.setattr(control, "_slot_state", seen)


def test_a_volume_that_went_away_can_come_back() -> None:
    system = machine(primary(), blank())
    plan, known, last, disk = prepared(system, blank())
    states = tuple(
        SlotState(s.name, s.mountpoint, s.fstype, s.number, 0, 1, "old", "old")
        for s in plan.slots if s.kind == "volume"
    )  # fmt: skip
    last = replace(last, slots=states, fixups=(Fixups("home", ((0, 4096),)),))
    away = replace(system, mounts=tuple(m for m in system.mounts if m.mountpoint != "/home"))
    without, shape = plan_update(away, disk, known, last, fstab(away))
    assert shape.gone == ("/home",)
    after = control.describe(without, INSTANT, (), 1.0, last)
    home = next(slot for slot in after.slots if slot.name == "home")
    assert (home.superblock, home.taken) == ("old", THEN)
    assert Fixups("home", ((0, 4096),)) in after.fixups
    again, shape = plan_update(system, disk, known, after, fstab(system))
    assert not shape
    assert [volume.mountpoint for volume in again.volumes] == ["/", "/boot/efi", "/home"]
    assert [pair.new for pair in again.pairs] == [pair.new for pair in plan.pairs]


def test_a_backup_of_one_volume_leaves_the_age_of_the_system() -> None:
    system = machine(primary(), blank())
    _, known, last, disk = prepared(system, blank())
    plan, _ = plan_update(system, disk, known, last, fstab(system))
    only = copy_only(plan, ["/home"])
    assert [slot.name for _, slot in only.copied] == ["home"]
    after = control.describe(only, INSTANT, (), 1.0, last)
    assert after.taken == THEN
    home = next(slot for slot in after.slots if slot.name == "home")
    assert home.taken.startswith("2027-01-15")


def test_the_system_is_one_unit() -> None:
    system = machine(primary(), blank())
    _, known, last, disk = prepared(system, blank())
    plan, _ = plan_update(system, disk, known, last, fstab(system))
    for wanted in (["/"], ["/boot/efi"], ["/", "/boot/efi"]):
        chosen = copy_only(plan, wanted)
        assert [volume.mountpoint for volume, _ in chosen.copied] == ["/", "/boot/efi"]
        assert chosen.resting == ("/home",)
    assert copy_only(plan, []).resting == ()
