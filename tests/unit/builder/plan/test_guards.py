# SPDX-License-Identifier: GPL-3.0-or-later
"""Each disk that must not be written is refused, by a class and a sentence of its own."""

from dataclasses import replace

import pytest

from builder.plan.guards import check_disk, check_name, check_volume, find_primary
from core.errors import (
    CannotCopyFileSystem,
    DiskIsMember,
    DiskIsPrimary,
    DiskIsSwap,
    DiskMounted,
    DiskReadOnly,
    NoSerial,
    NoStableName,
    PrimaryNotSupported,
    Refused,
    RunningFromCopy,
)
from core.model.machine import Holder, Machine, Swap
from tests.support.machines import GIB, MIB, blank, disk, machine, mount, part, primary

USED = disk("/dev/sdb", 40 * GIB, part("/dev/sdb1", 1, MIB, 10 * GIB, "ext4"))
LV = Holder("/dev/dm-0", (253, 0), "LVM volume vg0-srv", ("/dev/sdb1",), size=GIB, fstype="ext4")


def test_a_blank_disk_is_fine() -> None:
    target = blank()
    check_disk(machine(primary(), target), target)


def test_a_disk_with_forgotten_data_is_fine() -> None:
    check_disk(machine(primary(), USED), USED)


def test_the_primary_is_refused() -> None:
    system = machine(primary(), blank())
    with pytest.raises(DiskIsPrimary, match="it holds /\\."):
        check_disk(system, system.disks[0])


def test_a_disk_that_holds_usr_alone_is_refused_as_primary() -> None:
    system = machine(primary(), USED)
    system = replace(system, mounts=(*system.mounts, mount(USED.partitions[0], "/usr")))
    with pytest.raises(DiskIsPrimary, match="/usr"):
        check_disk(system, USED)


def test_a_disk_under_the_root_is_refused_as_primary() -> None:
    system = machine(USED, blank("/dev/sdc"), mounts=(mount(LV, "/"),), holders=(LV,))
    with pytest.raises(DiskIsPrimary):
        check_disk(system, USED)


def with_mount(system: Machine, where: str, root: str = "/") -> Machine:
    mounted = mount(USED.partitions[0], where, root=root)
    return replace(system, mounts=(*system.mounts, mounted))


def test_a_mounted_disk_is_refused_and_the_place_is_named() -> None:
    with pytest.raises(DiskMounted, match=r"/dev/sdb is mounted at /media/usb\."):
        check_disk(with_mount(machine(primary(), USED), "/media/usb"), USED)


def test_a_disk_of_which_only_a_sub_folder_is_mounted_is_refused() -> None:
    with pytest.raises(DiskMounted):
        check_disk(with_mount(machine(primary(), USED), "/mnt/x", root="/x"), USED)


def test_swap_is_refused() -> None:
    system = replace(machine(primary(), USED), swaps=(Swap("/dev/sdb1", "partition", GIB, "", ""),))
    with pytest.raises(DiskIsSwap, match="/dev/sdb1"):
        check_disk(system, USED)


@pytest.mark.parametrize("kind", ["LVM volume vg0-srv", "md array md0", "multipath device mpatha"])
def test_what_lies_under_another_device_is_refused(kind: str) -> None:
    system = machine(primary(), USED, holders=(replace(LV, kind=kind),))
    with pytest.raises(DiskIsMember, match=kind):
        check_disk(system, USED)


@pytest.mark.parametrize(
    ("fstype", "said"),
    [
        ("LVM2_member", "LVM"),
        ("linux_raid_member", "md"),
        ("zfs_member", "ZFS"),
        ("ddf_raid_member", "ddf_raid_member"),
    ],
)
def test_a_member_that_nothing_assembled_is_refused_with_the_way_out(
    fstype: str, said: str
) -> None:
    whole = blank(fstype=fstype)
    in_part = disk("/dev/sdb", 40 * GIB, part("/dev/sdb1", 1, MIB, GIB, fstype))
    for target, path in ((whole, "/dev/sdb"), (in_part, "/dev/sdb1")):
        with pytest.raises(DiskIsMember, match=said) as caught:
            check_disk(machine(primary(), target), target)
        assert f"wipefs -a {path}," in caught.value.hint


def test_a_read_only_disk_is_refused_unless_we_made_it_so() -> None:
    target = blank(read_only=True)
    system = machine(primary(), target)
    with pytest.raises(DiskReadOnly):
        check_disk(system, target)
    check_disk(system, target, ours=True)


def test_a_disk_that_nothing_tells_apart_is_refused() -> None:
    target = blank(serial="", wwn="")
    with pytest.raises(NoSerial):
        check_disk(machine(primary(), target), target)
    only_wwn = blank(serial="")
    check_disk(machine(primary(), only_wwn), only_wwn)


def test_yes_takes_no_name_that_may_move() -> None:
    system = machine(primary(), blank())
    for name in ("/dev/sdb", "/dev/disk/by-path/pci-0000:00:03.0-sdb"):
        check_name(system, name, yes=False)
        with pytest.raises(NoStableName, match=name):
            check_name(system, name, yes=True)
    by_id = "scsi-0QEMU_QEMU_HARDDISK_SER-sdb"
    for name in ("SER-sdb", system.disks[1].wwn, by_id, f"/dev/disk/by-id/{by_id}"):
        check_name(system, name, yes=True)


def test_every_refusal_says_that_nothing_was_written() -> None:
    target = blank(read_only=True)
    with pytest.raises(Refused, match=r"Nothing was written\.$") as caught:
        check_disk(machine(primary(), target), target)
    assert caught.value.hint


def test_the_primary_is_the_disk_that_holds_root() -> None:
    system = machine(primary(), blank())
    assert find_primary(system) == system.disks[0]


def test_root_on_lvm_or_on_a_whole_disk_is_not_supported_yet() -> None:
    on_lvm = machine(USED, mounts=(mount(LV, "/"),), holders=(LV,))
    with pytest.raises(PrimaryNotSupported, match="LVM volume vg0-srv"):
        find_primary(on_lvm)
    whole = blank("/dev/vda", fstype="ext4")
    with pytest.raises(PrimaryNotSupported, match="without a partition table"):
        find_primary(machine(whole, mounts=(mount(whole, "/"),)))


def test_a_system_that_runs_from_the_copy_is_refused() -> None:
    slot = part("/dev/sda3", 3, MIB, GIB, "ext4", name="dpsr-slot-root")
    with pytest.raises(RunningFromCopy):
        find_primary(machine(disk("/dev/sda", 40 * GIB, slot), mounts=(mount(slot, "/"),)))


def test_file_systems_that_cannot_be_copied_say_how_to_go_on() -> None:
    data = part("/dev/sda5", 5, GIB, GIB, "xfs")
    system = machine(disk("/dev/sda", 9 * GIB, data), mounts=(mount(data, "/srv"),))
    with pytest.raises(CannotCopyFileSystem, match="/srv is xfs") as caught:
        check_volume(system, system.mounts[0])
    assert "--exclude /srv" in caught.value.hint
    with pytest.raises(CannotCopyFileSystem, match="/ is xfs") as caught:
        check_volume(system, mount(data, "/"))
    assert "--exclude" not in caught.value.hint


@pytest.mark.parametrize("option", ["dax", "dax=always", "dax=inode"])
def test_direct_access_is_refused(option: str) -> None:
    data = part("/dev/sda5", 5, GIB, GIB, "ext4")
    system = machine(disk("/dev/sda", 9 * GIB, data), mounts=(mount(data, "/srv"),))
    with pytest.raises(CannotCopyFileSystem, match="DAX"):
        check_volume(system, mount(data, "/srv", options=("rw", option)))
    check_volume(system, mount(data, "/srv", options=("rw", "dax=never")))


def test_persistent_memory_may_hold_single_dax_files() -> None:
    memory = disk("/dev/pmem0", GIB, part("/dev/pmem0p1", 1, MIB, GIB - MIB, "ext4"))
    mounted = mount(memory.partitions[0], "/srv")
    with pytest.raises(CannotCopyFileSystem, match="DAX"):
        check_volume(machine(memory, mounts=(mounted,)), mounted)
