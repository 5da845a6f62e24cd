# SPDX-License-Identifier: GPL-3.0-or-later
"""A clone is recognised by its partitions, and gets the same new names every time."""

import uuid
from dataclasses import replace

import pytest

from builder.plan.clone import plan_clone
from core.errors import DiskIsPrimary, NotAClone, PrimaryNotSupported
from core.model.machine import Disk, Machine
from tests.support import machines
from tests.support.machines import GIB


def _cloned(disk: Disk, size: int = 40 * GIB) -> Disk:
    copies = tuple(
        replace(part, path=part.path.replace("sda", "sdb"), links=()) for part in disk.partitions
    )
    return machines.disk("/dev/sdb", size, *copies, guid=disk.guid, table=disk.table)


def _machine(**more: Disk) -> tuple[Machine, Disk]:
    primary = more.get("primary") or machines.primary()
    clone = more.get("clone") or _cloned(primary)
    mounts = [
        machines.mount(primary.partitions[1], "/"),
        machines.mount(primary.partitions[0], "/boot/efi"),
        machines.mount(primary.partitions[2], "/home"),
    ]
    return machines.machine(primary, clone, mounts=mounts), clone


def test_partitions_are_paired_by_number_and_none_keeps_its_name() -> None:
    machine, disk = _machine()
    clone = plan_clone(machine, disk, machines.fstab(machine))
    assert [part.path for part in clone.parts] == [f"/dev/sdb{n}" for n in (1, 2, 3, 4)]
    assert [part.pair.mountpoint for part in clone.parts] == ["/boot/efi", "/", "/home", ""]
    old = {part.pair.old.uuid for part in clone.parts} | {
        part.pair.old.partuuid for part in clone.parts
    }
    new = [name for p in clone.parts for name in (p.pair.new.uuid, p.pair.new.partuuid)]
    assert len(set(new)) == len(new) == 8
    assert not old & set(new)
    assert clone.guid not in {disk.guid, *new}
    uuid.UUID(clone.guid)
    assert clone.parts[0].pair.new.uuid[4] == "-"
    assert clone.parts[1].pair.old.paths[0] == "/dev/sda2"


def test_a_second_time_the_names_are_the_same() -> None:
    machine, disk = _machine()
    text = machines.fstab(machine)
    first = plan_clone(machine, disk, text)
    done = replace(
        disk,
        guid=first.guid,
        partitions=tuple(
            replace(part, uuid=known.pair.new.uuid, partuuid=known.pair.new.partuuid)
            for part, known in zip(disk.partitions, first.parts, strict=True)
        ),
    )
    half = replace(disk, partitions=(*done.partitions[:2], *disk.partitions[2:]))
    for state in (done, half):
        again, _ = _machine(primary=machine.disks[0], clone=state)
        assert plan_clone(again, state, text).parts == first.parts


def test_another_disk_gets_other_names() -> None:
    machine, disk = _machine()
    text = machines.fstab(machine)
    other = replace(disk, serial="ANOTHER")
    there, _ = _machine(primary=machine.disks[0], clone=other)
    first, second = plan_clone(machine, disk, text), plan_clone(there, other, text)
    assert first.guid != second.guid
    assert first.parts[1].pair.new != second.parts[1].pair.new


def test_mbr_partitions_follow_the_signature() -> None:
    primary = replace(machines.primary(), table="dos", guid="0a4e203a")
    machine, disk = _machine(primary=primary, clone=_cloned(primary))
    clone = plan_clone(machine, disk, machines.fstab(machine))
    assert clone.guid.startswith("0x")
    assert clone.parts[1].pair.new.partuuid == f"{clone.guid[2:]}-02"


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_disk_without_a_copy_of_every_volume_is_no_clone(number: int) -> None:
    primary = machines.primary()
    disk = _cloned(primary)
    parts = list(disk.partitions)
    parts[number - 1] = replace(parts[number - 1], uuid=machines.a_uuid())
    machine, disk = _machine(primary=primary, clone=replace(disk, partitions=tuple(parts)))
    with pytest.raises(NotAClone):
        plan_clone(machine, disk, machines.fstab(machine))
    machine, disk = _machine(primary=primary, clone=machines.blank())
    with pytest.raises(NotAClone):
        plan_clone(machine, disk, machines.fstab(machine))


def test_a_partition_that_is_not_mounted_may_be_anything() -> None:
    primary = machines.primary()
    disk = _cloned(primary)
    parts = (*disk.partitions[:3], replace(disk.partitions[3], fstype="", uuid=""))
    machine, disk = _machine(primary=primary, clone=replace(disk, partitions=parts))
    assert len(plan_clone(machine, disk, machines.fstab(machine)).parts) == 3


def test_the_primary_itself_is_refused() -> None:
    machine, _ = _machine()
    with pytest.raises(DiskIsPrimary):
        plan_clone(machine, machine.disks[0], machines.fstab(machine))


def test_a_volume_on_a_third_disk_is_refused() -> None:
    machine, disk = _machine()
    third = machines.disk("/dev/sdc", GIB, machines.part("/dev/sdc1", 1, 1 << 20, GIB // 2, "ext4"))
    machine = replace(
        machine,
        disks=(*machine.disks, third),
        mounts=(*machine.mounts, machines.mount(third.partitions[0], "/var")),
    )
    with pytest.raises(PrimaryNotSupported):
        plan_clone(machine, disk, machines.fstab(machine))
