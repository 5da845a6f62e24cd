# SPDX-License-Identifier: GPL-3.0-or-later
"""Every refusal that concerns disks. Pure; nothing was written when one of these raises."""

from typing import Final

from core.errors import (
    CannotCopyFileSystem,
    ChangeTooLarge,
    DiskIsMember,
    DiskIsPrimary,
    DiskIsSwap,
    DiskMounted,
    DiskReadOnly,
    NoSerial,
    NoStableName,
    PrimaryNotSupported,
    RunningFromCopy,
)
from core.machine.find import is_stable_name
from core.model.copy import Volume
from core.model.machine import Disk, Machine, Mount
from core.screen import human

SUPPORTED: Final = ("ext4", "vfat")
"""File systems that this version copies while they are mounted."""

NEEDED: Final = ("/", "/boot", "/usr", "/var", "/boot/efi", "/efi")
"""Mount points without which the copy would not start: they stay in the set."""

_MEMBERS: Final = {
    "LVM2_member": "an LVM volume group",
    "LVM1_member": "an LVM volume group",
    "linux_raid_member": "an md array",
    "zfs_member": "a ZFS pool",
    "mpath_member": "a multipath device",
    "drbd": "a DRBD device",
    "bcache": "a bcache set",
    "ceph_bluestore": "a Ceph store",
    "VMFS_volume_member": "a VMFS volume",
    "vdo": "a VDO volume",
}
_PMEM: Final = "/dev/pmem"


def check_name(machine: Machine, name: str, *, yes: bool) -> None:
    """With `--yes` nobody reads which disk it is: the name must mean the same one always.

    Raises NoStableName.
    """
    if yes and not is_stable_name(machine, name):
        raise NoStableName(
            f"{name} may be another disk after the next start, so --yes does not take it. "
            "Nothing was written."
        )


def check_disk(machine: Machine, disk: Disk, *, ours: bool = False) -> None:
    """Refuse a disk that is in use or cannot become the DPSR disk.

    `ours`: it is recorded as the DPSR disk already; read-only is then our own hiding. Raises
    DiskIsPrimary, DiskMounted, DiskIsSwap, DiskIsMember, DiskReadOnly, NoSerial.
    """
    paths = {disk.path, *(part.path for part in disk.partitions)}
    above = {holder.path: holder for holder in machine.holders_of(disk)}
    for mount in machine.mounts:
        if mount.mountpoint in NEEDED and mount.source in paths | set(above):
            raise DiskIsPrimary(
                f"{disk.path} is the disk that this system runs from: it holds "
                f"{mount.mountpoint}. Nothing was written."
            )
    for mount in machine.mounts:
        if mount.source in paths:
            raise DiskMounted(disk.path, mount.mountpoint)
    for swap in machine.swaps:
        if swap.path in paths:
            raise DiskIsSwap(disk.path, swap.path)
    for holder in above.values():
        raise DiskIsMember(disk.path, holder.kind)
    _check_signatures(disk)
    if disk.read_only and not ours:
        raise DiskReadOnly(disk.path)
    if not disk.serial and not disk.wwn:
        raise NoSerial(disk.path)


def find_primary(machine: Machine) -> Disk:
    """The disk that holds `/`. Raises PrimaryNotSupported, RunningFromCopy."""
    root = machine.mount_at("/")
    if root is None:
        raise PrimaryNotSupported(
            "The root file system lies on no disk of this machine. Nothing was written."
        )
    primary = machine.disk_of(root.source)
    if primary is None:
        raise PrimaryNotSupported(_lies_on(machine, root))
    part = machine.partition(root.source)
    if part is None:
        raise PrimaryNotSupported(
            f"/ fills the whole of {primary.path}, without a partition table. "
            "This version copies partitions. Nothing was written."
        )
    if part.name.startswith("dpsr-slot-"):
        raise RunningFromCopy(
            f"This system runs from the DPSR disk ({primary.path}): copies never flow backwards. "
            "Nothing was written."
        )
    return primary


def check_volume(machine: Machine, mount: Mount) -> None:
    """Refuse a file system that this version cannot copy while it is mounted.

    Raises CannotCopyFileSystem, PrimaryNotSupported.
    """
    leave_out = (
        None if mount.mountpoint in NEEDED else f"Leave it out: --exclude {mount.mountpoint}"
    )
    only = "Today ext4 can be copied, and FAT for the ESP."
    if machine.disk_of(mount.source) is None:
        raise PrimaryNotSupported(_lies_on(machine, mount), leave_out)
    if mount.fstype not in SUPPORTED:
        raise CannotCopyFileSystem(
            f"{mount.mountpoint} is {mount.fstype}, which this version cannot copy while it is "
            "mounted. Nothing was written.",
            leave_out or only,
        )
    if _bypasses_the_page_cache(mount):
        raise CannotCopyFileSystem(
            f"{mount.mountpoint} is mounted for direct access (DAX): its writes cannot be tracked. "
            "Nothing was written.",
            leave_out or "Mount it with dax=never.",
        )


def check_blocks(volume: Volume, disk: Disk) -> None:
    """Refuse a file system whose blocks are smaller than the sectors of the DPSR disk.

    FAT is made anew on the DPSR disk, so it fits always. Raises CannotCopyFileSystem.
    """
    if volume.fstype != "vfat" and volume.block < disk.sector:
        raise CannotCopyFileSystem(
            f"{volume.mountpoint} has blocks of {volume.block} bytes; {disk.path} can only write "
            f"{disk.sector} at once. Nothing was written.",
            "Use a disk with sectors of 512 bytes (512n or 512e)."
            if volume.mountpoint in NEEDED
            else None,
        )


def check_change(differs: int, used: int, percent: int, *, accept: bool) -> None:
    """Refuse an update that would overwrite more than `percent` of the bytes in use.

    Raises ChangeTooLarge.
    """
    if not accept and differs > used * percent // 100:
        raise ChangeTooLarge(
            f"{human(differs)} of {human(used)} in use would change ({100 * differs // used} %); "
            f"max_change allows {percent} %. Nothing was written: the copy is as it was."
        )


def _check_signatures(disk: Disk) -> None:
    """A member that nothing has assembled at the moment may still be somebody's data."""
    for path, fstype in ((disk.path, disk.fstype), *((p.path, p.fstype) for p in disk.partitions)):
        what = _MEMBERS.get(fstype)
        if what is None and fstype.endswith("_member"):
            what = f"a RAID or volume set ({fstype})"
        if what is not None:
            raise DiskIsMember(
                disk.path,
                f"{what} (by the signature on {path})",
                f"If nothing on it is needed any more: wipefs -a {path}, then try again.",
            )


def _bypasses_the_page_cache(mount: Mount) -> bool:
    if mount.source.startswith(_PMEM) and "dax=never" not in mount.options:
        return True  # single files may be marked for it
    return any(word == "dax" or word in {"dax=always", "dax=inode"} for word in mount.options)


def _lies_on(machine: Machine, mount: Mount) -> str:
    kind = next((h.kind for h in machine.holders if h.path == mount.source), mount.source)
    return (
        f"{mount.mountpoint} lies on {kind}. This version copies plain partitions. "
        "Nothing was written."
    )
