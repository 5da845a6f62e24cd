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
    uuid: str
    label: str


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


@dataclass(frozen=True, slots=True)
class Mount:
    """One mounted file system whose root is what is mounted (no bind mounts of sub-folders)."""

    source: str
    dev: tuple[int, int]
    mountpoint: str
    fstype: str
    options: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Swap:
    """One active swap area: a partition or a file."""

    path: str
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

    def mount_at(self, mountpoint: str) -> Mount | None:
        """What is mounted at `mountpoint`."""
        found = None
        for mount in self.mounts:
            if mount.mountpoint == mountpoint:
                found = mount  # the last one mounted there is the one that is seen
        return found
