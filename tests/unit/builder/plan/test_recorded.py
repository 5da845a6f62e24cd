# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of a routine backup: what prepare laid out, with the system as it is today."""

from dataclasses import replace

import pytest

from builder.plan.identity import Fresh
from builder.plan.layout import make_plan
from builder.plan.recorded import plan_update
from builder.plan.shape import Shape
from builder.plan.table import rows
from builder.plan.wish import Wish
from core.errors import NotPrepared, PrimaryNotSupported, ShapeChanged
from core.model.copy import Plan
from core.model.figures import RunFigures
from core.model.machine import Disk, Machine, Partition
from core.model.manifest import Manifest
from core.settings import BackupSet, set_of
from tests.support.machines import GIB, MIB, blank, fstab, machine, mount, part, primary

FIGURES = RunFigures(1.0, 1, 1, 1, 0.1, "used")


def prepared(
    system: Machine, target: Disk, wish: Wish | None = None
) -> tuple[Plan, BackupSet, Manifest, Disk]:
    """The plan of prepare, what is recorded of it, and the disk as it is afterwards."""
    plan = make_plan(system, target, wish or Wish(), fstab(system), Fresh())
    manifest = Manifest(
        "system", "0" * 32, 1, "", "", "2026-01-01T00:00:00+00:00", "server", "6.12",
        plan.disk_guid, (), plan.pairs, (), FIGURES,
    )  # fmt: skip
    uuids = {slot.number: slot.identity for slot in plan.slots}
    uuids |= {r.number: r.identity for r in (plan.bios, plan.control, plan.vault)}
    parts = tuple(
        Partition(
            row.number, f"{plan.disk}{row.number}", (8, 16 + row.number), row.start, row.size,
            row.kind, row.name, row.partuuid, "", uuids[row.number].uuid, uuids[row.number].label,
        )
        for row in rows(plan)
    )  # fmt: skip
    after = replace(target, table="gpt", guid=plan.disk_guid, partitions=parts)
    return plan, set_of(plan, 4096), manifest, after


def test_nothing_changed_so_the_plan_is_that_of_prepare() -> None:
    system = machine(primary(), blank())
    plan, known, last, disk = prepared(system, blank())
    again, shape = plan_update(replace(system, disks=(primary(), disk)), disk, known, last,
                               fstab(system))  # fmt: skip
    assert not shape
    assert (again.slots, again.bios, again.control) == (plan.slots, plan.bios, plan.control)
    assert again.vault == plan.vault
    assert [volume.mountpoint for volume in again.volumes] == ["/", "/boot/efi", "/home"]
    assert [pair.new for pair in again.pairs] == [pair.new for pair in plan.pairs]


def grown(system: Machine, **mounted: str) -> tuple[Machine, str]:
    """The system with a new partition, mounted at `place`."""
    first = system.disks[0]
    new = part("/dev/sda5", 5, 19 * GIB, 64 * MIB, "ext4")
    more = replace(first, partitions=(*first.partitions, new))
    wider = replace(
        system,
        disks=(more, *system.disks[1:]),
        mounts=(*system.mounts, mount(new, mounted["place"])),
    )
    return wider, fstab(wider)


def test_a_new_file_system_is_said_and_left_out() -> None:
    system = machine(primary(), blank())
    _, known, last, disk = prepared(system, blank())
    wider, text = grown(system, place="/srv")
    again, shape = plan_update(wider, disk, known, last, text)
    assert shape == Shape(new=("/srv",))
    assert "/srv" not in {volume.mountpoint for volume in again.volumes}
    assert any("/dev/sda5" in identity.paths for identity in again.left_out)


def test_one_that_the_copy_needs_to_start_is_refused() -> None:
    system = machine(primary(), blank())
    _, known, last, disk = prepared(system, blank())
    wider, text = grown(system, place="/boot")
    with pytest.raises(ShapeChanged, match="/boot is new"):
        plan_update(wider, disk, known, last, text)


def test_what_was_left_out_on_purpose_is_not_new() -> None:
    system, text = grown(machine(primary(), blank()), place="/srv")
    _, known, last, disk = prepared(system, blank(), Wish(exclude=("/srv",)))
    again, shape = plan_update(system, disk, known, last, text)
    assert not shape
    assert again.exclude == ("/srv",)


def test_one_that_went_away_is_said() -> None:
    system = machine(primary(), blank())
    _, known, last, disk = prepared(system, blank())
    fewer = replace(system, mounts=tuple(m for m in system.mounts if m.mountpoint != "/home"))
    again, shape = plan_update(fewer, disk, known, last, fstab(fewer))
    assert shape == Shape(gone=("/home",))
    assert [slot.mountpoint for slot in again.slots if slot.kind == "volume"] == ["/", "/boot/efi"]


def test_one_that_is_only_not_mounted_is_refused() -> None:
    system = machine(primary(), blank())
    _, known, last, disk = prepared(system, blank())
    fewer = replace(system, mounts=tuple(m for m in system.mounts if m.mountpoint != "/home"))
    with pytest.raises(PrimaryNotSupported, match="/home is in /etc/fstab but not mounted"):
        plan_update(fewer, disk, known, last, fstab(system))


def test_a_partition_that_grew_is_copied_as_far_as_its_slot_goes() -> None:
    """Its file system may not have grown with it; whether it has is read from the superblock."""
    system = machine(primary(), blank())
    plan, known, last, disk = prepared(system, blank())
    first = system.disks[0]
    parts = tuple(
        replace(p, size=p.size + GIB) if p.path == "/dev/sda3" else p for p in first.partitions
    )
    larger = replace(system, disks=(replace(first, partitions=parts), disk))
    again, _ = plan_update(larger, disk, known, last, fstab(system))
    assert [volume.size for volume in again.volumes] == [volume.size for volume in plan.volumes]


def test_a_disk_whose_partitions_were_changed_is_refused() -> None:
    system = machine(primary(), blank())
    _, known, last, disk = prepared(system, blank())
    fewer = replace(disk, partitions=disk.partitions[:-1])
    with pytest.raises(NotPrepared, match="vault is not on /dev/sdb"):
        plan_update(system, fewer, known, last, fstab(system))
