# SPDX-License-Identifier: GPL-3.0-or-later
"""The table as sfdisk is told, and as a disk is recognised by it."""

import json
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from builder.plan.identity import Fresh
from builder.plan.layout import make_plan
from builder.plan.table import adopt, read_back, rows, same_layout, script
from builder.plan.wish import Wish
from core.model.copy import Plan, Region, Slot
from core.model.machine import Disk, Machine, Partition
from tests.support.machines import blank, fstab, machine, primary

DATA = Path(__file__).parents[3] / "data"


def planned(seed: int = 1, sector: int = 512) -> tuple[Plan, Machine]:
    system = machine(primary(), blank(sector=sector))
    return make_plan(
        system, system.disks[1], Wish(), fstab(system), Fresh(Random(seed).randbytes)
    ), system


def on_disk(plan: Plan, *, copied: bool = False) -> Disk:
    """The disk as it is found when prepare was cut: tables and own file systems, slots empty."""
    fs = {plan.control.number: "vfat", plan.vault.number: "ext4"}
    fs |= {slot.number: slot.fstype for slot in plan.slots if copied or slot.kind == "swap"}
    ours: tuple[Region | Slot, ...] = (plan.bios, plan.control, plan.vault, *plan.slots)
    new = {part.number: part.identity for part in ours}
    parts = tuple(
        Partition(
            row.number, plan.slot_path(row.number), (8, 16 + row.number), row.start, row.size,
            row.kind, row.name, row.partuuid, fs.get(row.number, ""),
            new[row.number].uuid if row.number in fs else "",
            new[row.number].label if row.number in fs else "",
        )
        for row in rows(plan)
    )  # fmt: skip
    return blank(table="gpt", guid=plan.disk_guid, partitions=parts)


def test_the_script_has_every_identity_and_hides_what_nobody_should_mount() -> None:
    plan, _ = planned()
    head, *lines = script(plan).split("\n\n")
    assert head == f"label: gpt\nlabel-id: {plan.disk_guid}\nunit: sectors"
    told = lines[0].splitlines()
    assert told[0] == (
        "1 : start=2048, size=2048, type=21686148-6449-6e6f-744e-656564454649, "
        f'uuid={plan.bios.identity.partuuid}, name="dpsr-bios"'
    )
    kinds = {line.split('"')[1]: (line.split("type=")[1][:8], "GUID:63" in line) for line in told}
    assert kinds == {
        "dpsr-bios": ("21686148", False),
        "dpsr-control": ("c12a7328", False),
        "dpsr-slot-root": ("0fc63daf", True),
        "dpsr-slot-efi": ("ebd0a0a2", True),
        "dpsr-slot-home": ("0fc63daf", True),
        "dpsr-slot-swap": ("0657fd6d", True),
        "dpsr-vault": ("0fc63daf", True),
    }


def test_sectors_are_those_of_the_disk() -> None:
    plan, _ = planned(sector=4096)
    assert "1 : start=256, size=256," in script(plan)


def test_what_sfdisk_prints_is_read_back() -> None:
    guid, found = read_back(json.loads((DATA / "sfdisk/dpsr-loop.json").read_text()), 512)
    assert guid == "dcbed407-e3e6-4605-b99e-8306dda748a6"
    assert [(row.number, row.name, row.hidden) for row in found] == [
        (1, "dpsr-bios", False), (2, "dpsr-control", False), (3, "dpsr-slot-root", True),
        (4, "dpsr-slot-efi", True), (5, "dpsr-slot-swap", True), (6, "dpsr-vault", True),
    ]  # fmt: skip
    assert (found[0].start, found[0].size) == (1 << 20, 1 << 20)
    assert all(
        row.kind == row.kind.lower() and row.partuuid == row.partuuid.lower() for row in found
    )


def test_an_interrupted_disk_is_adopted_with_its_identities() -> None:
    plan, system = planned(1)
    before, _ = planned(2)
    found = adopt(system, on_disk(before), plan)
    assert found is not None
    assert rows(found) == rows(before)
    assert found.disk_guid == before.disk_guid
    assert found.control == before.control
    assert found.vault == before.vault
    assert found.swaps[0].new == before.swaps[0].new == found.slots[-1].identity
    # A slot has no superblock before the last step: its identity is the new one.
    assert found.slots[0].identity.uuid == plan.slots[0].identity.uuid
    assert found.slots[0].identity.partuuid == before.slots[0].identity.partuuid
    assert found.volumes == plan.volumes


def test_a_slot_that_was_copied_keeps_its_identity_too() -> None:
    plan, system = planned(1)
    before, _ = planned(2)
    found = adopt(system, on_disk(before, copied=True), plan)
    assert found is not None
    assert found.slots == before.slots


def test_a_foreign_superblock_in_a_slot_is_not_adopted() -> None:
    plan, system = planned(1)
    disk = on_disk(planned(2)[0], copied=True)
    parts = tuple(replace(part, label="root") for part in disk.partitions[2:3])
    disk = replace(disk, partitions=(*disk.partitions[:2], *parts, *disk.partitions[3:]))
    found = adopt(system, disk, plan)
    assert found is not None
    assert found.slots[0].identity.uuid == plan.slots[0].identity.uuid


@pytest.mark.parametrize("field", ["start", "size", "name", "kind", "number"])
def test_another_layout_is_not_ours(field: str) -> None:
    plan, system = planned()
    disk = on_disk(plan)
    assert same_layout(plan, disk)
    old = getattr(disk.partitions[2], field)
    changed = replace(disk.partitions[2], **{field: old + ("x" if isinstance(old, str) else 1)})
    other = replace(disk, partitions=(*disk.partitions[:2], changed, *disk.partitions[3:]))
    assert not same_layout(plan, other)
    assert adopt(system, other, plan) is None


def test_a_disk_without_its_own_file_systems_is_made_anew() -> None:
    plan, system = planned()
    disk = on_disk(plan)
    for at in (1, 5, 6):  # control, swap, vault
        parts = list(disk.partitions)
        parts[at] = replace(parts[at], fstype="", uuid="")
        assert adopt(system, replace(disk, partitions=tuple(parts)), plan) is None
    parts = list(disk.partitions)
    parts[1] = replace(parts[1], label="OTHER")
    assert adopt(system, replace(disk, partitions=tuple(parts)), plan) is None


def test_a_blank_or_mbr_disk_is_not_ours() -> None:
    plan, system = planned()
    assert adopt(system, system.disks[1], plan) is None
    assert adopt(system, replace(on_disk(plan), table="dos"), plan) is None
