# SPDX-License-Identifier: GPL-3.0-or-later
"""The words of a copy: volume, slot, identity, plan, fix-ups, manifest."""

from dataclasses import dataclass, field
from typing import Literal

from core.model.machine import Partition


@dataclass(frozen=True, slots=True)
class Identity:
    """By what a file system is found; never equal on primary and copy. Unknown: empty string.

    UUIDs are written as blkid prints them (`AAAA-BBBB` for FAT), GUIDs in lower case.
    """

    uuid: str
    label: str
    partuuid: str
    partlabel: str
    paths: tuple[str, ...] = ()
    """Every device name of it, `/dev/sda1` and the links under /dev/disk, /dev/mapper, …; the
    copy's slots have none, since theirs change between boots."""


@dataclass(frozen=True, slots=True)
class Volume:
    """One file system of the primary that is backed up."""

    mountpoint: str
    source: str
    """Block device, good for this run only."""
    dev: tuple[int, int]
    disk: str
    """Path of the disk that it lies on; empty for dm and md."""
    offset: int
    """Where it begins on that disk."""
    size: int
    fstype: str
    used: int
    block: int
    """Block size of the file system."""
    options: tuple[str, ...]
    identity: Identity


@dataclass(frozen=True, slots=True)
class Slot:
    """The plain partition of the DPSR disk that holds one volume's copy, or fresh swap."""

    name: str
    """`root`, `boot`, `efi`, `home`, `swap`, …: the partition is called `dpsr-slot-NAME`."""
    kind: Literal["volume", "swap"]
    mountpoint: str
    """Of its volume; empty for swap."""
    fstype: str
    number: int
    start: int
    size: int
    identity: Identity


@dataclass(frozen=True, slots=True)
class Region:
    """A partition of the DPSR disk that is no slot: `dpsr-bios`, `dpsr-control`, `dpsr-vault`."""

    name: str
    number: int
    start: int
    size: int
    identity: Identity


@dataclass(frozen=True, slots=True)
class SwapFile:
    """A swap file inside a volume: its content is never copied, its copy gets a fresh header."""

    path: str
    volume: str
    """Mount point of the volume that it lies in."""
    size: int


@dataclass(frozen=True, slots=True)
class Pair:
    """One volume (or swap area) of the primary and its slot: what is renamed to what."""

    mountpoint: str
    """Empty for swap."""
    fstype: str
    old: Identity
    new: Identity


@dataclass(frozen=True, slots=True)
class Plan:
    """What `prepare` is going to do: the whole of it, before anything is written."""

    name: str
    """Of the backup set."""
    primary: str
    """Path of the primary's disk."""
    disk: str
    """Path of the disk that becomes the DPSR disk, good for this run only."""
    serial: str
    wwn: str
    model: str
    disk_size: int
    disk_guid: str
    """The new GUID of the disk."""
    sector: int
    firmware: Literal["uefi", "bios"]
    bios: Region
    control: Region
    vault: Region
    volumes: tuple[Volume, ...]
    slots: tuple[Slot, ...]
    """Slots of the volumes, in the order of `volumes`, then those of swap."""
    swaps: tuple[Pair, ...]
    """Swap partitions: old and new."""
    swap_files: tuple[SwapFile, ...]
    left_out: tuple[Identity, ...]
    """File systems of /etc/fstab that are not in the set."""
    driver: str
    """Kernel module of the DPSR disk's controller."""
    drivers: tuple[str, ...] = ()
    """Modules that the copy's initrds must have: the DPSR disk's controller and the primary's."""
    warnings: tuple[str, ...] = ()
    before: tuple[Partition, ...] = ()
    """What is on the disk now and is going to be lost."""
    hostname: str = ""
    """Of the primary, as `kernel`, the release of its running kernel."""
    kernel: str = ""
    exclude: tuple[str, ...] = ()
    """Mount points that were asked to be left out."""
    resting: tuple[str, ...] = ()
    """Mount points of the set that are not copied this time (`dpsr update --only`)."""

    @property
    def copied(self) -> tuple[tuple[Volume, Slot], ...]:
        """The volumes that are copied this time, each with its slot."""
        pairs = zip(self.volumes, self.slots, strict=False)  # slots of swap come last
        return tuple(pair for pair in pairs if pair[0].mountpoint not in self.resting)

    def slot_of(self, volume: Volume) -> Slot:
        """The slot of one of `volumes`."""
        return next(slot for slot in self.slots if slot.mountpoint == volume.mountpoint)

    @property
    def boot_slot(self) -> Slot:
        """The slot that holds /boot/grub: that of /boot, else that of /."""
        by_mountpoint = {slot.mountpoint: slot for slot in self.slots}
        return by_mountpoint.get("/boot") or by_mountpoint["/"]

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """Every renaming: volumes first, then swap."""
        return (
            *(
                Pair(
                    volume.mountpoint, volume.fstype, volume.identity, self.slot_of(volume).identity
                )
                for volume in self.volumes
            ),
            *self.swaps,
        )

    def slot_path(self, number: int) -> str:
        """Device path of partition `number` of the DPSR disk (`/dev/nvme1n1p3`, `/dev/sdb3`)."""
        return partition_path(self.disk, number)


def partition_path(disk: str, number: int) -> str:
    """The kernel's name of a partition: a `p` goes between when the disk's name ends in a digit."""
    return f"{disk}p{number}" if disk[-1].isdigit() else f"{disk}{number}"


@dataclass(frozen=True, slots=True)
class Fixups:
    """The blocks of one slot that differ from the volume on purpose: `(start, end)` byte ranges."""

    slot: str
    ranges: tuple[tuple[int, int], ...]
    why: tuple[str, ...] = field(default=())
    """The files that were edited, for people."""
