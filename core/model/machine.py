# SPDX-License-Identifier: GPL-3.0-or-later
"""What this machine is made of: disks, partitions, mounts, swap. One Machine value per look."""

from dataclasses import dataclass
from typing import Literal

Bus = Literal["virtio", "scsi", "sata", "nvme", "usb", "other"]
Table = Literal["gpt", "dos", ""]
Firmware = Literal["uefi", "bios"]


@dataclass(frozen=True, slots=True)
class Partition:
    """One partition of a disk; what is unknown is an empty string."""

    number: int
    path: str
    dev: tuple[int, int]
    start: int
    size: int
    kind: str
    """GPT type GUID (lower case) or MBR type (`0x83`)."""
    name: str
    partuuid: str
    fstype: str
    """File system, or what it is a member of (`LVM2_member`, `linux_raid_member`, …)."""
    uuid: str
    label: str
    links: tuple[str, ...] = ()
    """Its links under /dev/disk, sorted."""


@dataclass(frozen=True, slots=True)
class Disk:
    """One whole disk as the kernel shows it now."""

    path: str
    dev: tuple[int, int]
    serial: str
    wwn: str
    model: str
    size: int
    sector: int
    """Logical sector size in bytes."""
    bus: Bus
    driver: str
    """Kernel module of the controller (`virtio_scsi`, `nvme`, `ahci`, …), empty when unknown."""
    read_only: bool
    removable: bool
    table: Table
    guid: str
    """Disk GUID (GPT, lower case) or disk signature (MBR, 8 hex digits)."""
    links: tuple[str, ...]
    """Its links under /dev/disk/by-id and by-path, sorted."""
    partitions: tuple[Partition, ...]
    fstype: str = ""
    """A file system or member signature on the whole disk, without a partition table."""
    uuid: str = ""
    """Of that file system, as its label."""
    label: str = ""
    serials: tuple[str, ...] = ()
    """Other serial numbers under which udev and lsblk know it (SCSI disks have several)."""
    drivers: tuple[str, ...] = ()
    """Every kernel module between the disk and its bus (`sd_mod`, `virtio_scsi`, `virtio_pci`)."""
    ignored: bool = False
    """udev was told to leave it alone: nothing links to it, mounts it or assembles it."""


@dataclass(frozen=True, slots=True)
class Mount:
    """One mounted file system on a block device.

    A bind mount of a sub-folder is listed only when nothing else shows that its device is in use.
    """

    source: str
    """The kernel's name of the block device (`/dev/sda2`, `/dev/dm-0`)."""
    dev: tuple[int, int]
    mountpoint: str
    fstype: str
    options: tuple[str, ...]
    """Of the mount, then of the file system."""
    used: int = 0
    """Bytes that are in use."""
    block: int = 0
    """Block size of the file system."""
    root: str = "/"
    """What of the file system is mounted: `/`, or a sub-folder or subvolume."""


@dataclass(frozen=True, slots=True)
class Swap:
    """One active swap area: a partition or a file."""

    path: str
    """The kernel's name of the device, or the file."""
    kind: Literal["partition", "file"]
    size: int
    uuid: str
    label: str


@dataclass(frozen=True, slots=True)
class Holder:
    """A block device that lies on others: a dm or md device."""

    path: str
    dev: tuple[int, int]
    kind: str
    """`LVM volume vg0-root`, `md array md0`, `crypt device …`, in words for people."""
    on: tuple[str, ...]
    """Paths of the partitions or disks that it lies on, all the way down."""
    size: int = 0
    fstype: str = ""
    uuid: str = ""
    label: str = ""
    links: tuple[str, ...] = ()
    """Its links under /dev/mapper, /dev/md, /dev/VG and /dev/disk, sorted."""


@dataclass(frozen=True, slots=True)
class Machine:
    """All that a plan needs to know; made by `core.machine.look`, never changed."""

    hostname: str
    firmware: Firmware
    secure_boot: bool
    kernel: str
    """Release of the running kernel, as `uname -r` prints it."""
    memory: int
    disks: tuple[Disk, ...]
    mounts: tuple[Mount, ...]
    swaps: tuple[Swap, ...]
    holders: tuple[Holder, ...]

    def disk_of(self, path: str) -> Disk | None:
        """The disk that is, or has the partition, `path`; None for dm, md and what is unknown."""
        for disk in self.disks:
            if disk.path == path or any(part.path == path for part in disk.partitions):
                return disk
        return None

    def partition(self, path: str) -> Partition | None:
        """The partition `path`, if it is one."""
        for disk in self.disks:
            for part in disk.partitions:
                if part.path == path:
                    return part
        return None

    def holders_of(self, disk: Disk) -> tuple[Holder, ...]:
        """What lies on `disk` or on one of its partitions."""
        paths = {disk.path, *(part.path for part in disk.partitions)}
        return tuple(holder for holder in self.holders if paths.intersection(holder.on))

    def mount_at(self, mountpoint: str) -> Mount | None:
        """What is mounted at `mountpoint`."""
        found = None
        for mount in self.mounts:
            if mount.mountpoint == mountpoint:
                found = mount  # the last one mounted there is the one that is seen
        return found
