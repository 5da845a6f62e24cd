# SPDX-License-Identifier: GPL-3.0-or-later
"""What `dpsr fixup` is going to do with a disk that another tool cloned from the primary. Pure.

The new identities follow from the disk's serial number and the old ones: they are the same each
time that this disk is cloned and fixed up, so that an interrupted run can be repeated and the
firmware's boot entry stays good.
"""

import uuid
from dataclasses import dataclass
from typing import Final

from builder.plan.fstab import identity_of, parse_fstab
from builder.plan.guards import check_disk, find_primary
from builder.plan.volumes import choose
from builder.plan.wish import Wish
from core.errors import NotAClone, PrimaryNotSupported
from core.model.copy import Identity, Pair, SwapFile
from core.model.machine import Disk, Machine, Partition

_SPACE: Final = uuid.UUID("6b1f4e0c-5d0a-4f5e-9a53-2f0f6c1d7a11")
FIXABLE: Final = frozenset({"ext2", "ext3", "ext4", "vfat", "swap"})


@dataclass(frozen=True, slots=True)
class ClonePart:
    """One partition of the clone; `pair.mountpoint` is empty where nothing is mounted."""

    number: int
    path: str
    fstype: str
    """Empty when there is nothing in it that has a UUID."""
    pair: Pair


@dataclass(frozen=True, slots=True)
class Clone:
    """A disk with a copy of the primary's partitions, and what they are going to be called."""

    disk: str
    serial: str
    table: str
    guid: str
    """The new one of the disk: a GUID, or an MBR signature as `0x1234abcd`."""
    parts: tuple[ClonePart, ...]
    left_out: tuple[Identity, ...]
    swap_files: tuple[SwapFile, ...]
    drivers: tuple[str, ...]


def plan_clone(machine: Machine, disk: Disk, fstab: str) -> Clone:
    """Pair the partitions of `disk` with the primary's, by number, type and UUID.

    Raises the refusals of `check_disk` and `find_primary`, NotAClone, PrimaryNotSupported.
    """
    check_disk(machine, disk)
    primary = find_primary(machine)
    choice = choose(machine, primary, Wish(), parse_fstab(fstab))
    if disk.table != primary.table or not disk.table:
        raise NotAClone(f"{disk.path} is no clone of {primary.path}. Nothing was written.")
    guid = new_guid(primary, disk)
    mountpoints = {volume.source: volume.mountpoint for volume in choice.volumes}
    for volume in choice.volumes:
        if volume.disk != primary.path:
            raise PrimaryNotSupported(
                f"{volume.mountpoint} lies on {volume.disk}, not on the disk that was cloned. "
                "Nothing was written."
            )
    copies = {part.number: part for part in disk.partitions}
    parts = []
    for old in primary.partitions:
        copy = copies.get(old.number)
        new = new_identity(disk, guid, old, mountpoints.get(old.path, ""))
        if copy is None or copy.fstype != old.fstype or copy.uuid not in {old.uuid, new.uuid}:
            if old.path in mountpoints:
                raise NotAClone(
                    f"Partition {old.number} of {disk.path} is no copy of {old.path}, which holds "
                    f"{mountpoints[old.path]}. Nothing was written."
                )
            continue
        if old.uuid and old.fstype not in FIXABLE and old.path in mountpoints:
            raise PrimaryNotSupported(
                f"A clone of {old.fstype} cannot be given a new UUID yet. Nothing was written."
            )
        known = identity_of(machine, old.path)
        mountpoint = mountpoints.get(old.path, "")
        fstype = old.fstype if old.fstype in FIXABLE else ""
        parts.append(
            ClonePart(old.number, copy.path, fstype, Pair(mountpoint, old.fstype, known, new))
        )
    return Clone(
        disk.path, disk.serial, disk.table, guid, tuple(parts), choice.left_out, choice.swap_files,
        tuple(dict.fromkeys((*disk.drivers, *primary.drivers))),
    )  # fmt: skip


def new_guid(primary: Disk, disk: Disk) -> str:
    """The identity of the clone's partition table."""
    found = _made(disk, "disk", primary.guid)
    return str(found) if disk.table == "gpt" else f"0x{found.hex[:8]}"


def new_identity(disk: Disk, guid: str, old: Partition, mountpoint: str) -> Identity:
    """What the clone of partition `old` on `disk` is called; empty where `old` has nothing."""
    found = _made(disk, f"{old.number}", old.uuid)
    name = mountpoint.strip("/").replace("/", "-") or ("root" if mountpoint else f"{old.number}")
    label = f"copy-{name}"[:16]
    if old.fstype == "vfat":
        fs_uuid, label = f"{found.hex[:4]}-{found.hex[4:8]}".upper(), label[:11].upper()
    else:
        fs_uuid = str(found)
    fixable = bool(old.uuid) and old.fstype in FIXABLE
    return Identity(
        uuid=fs_uuid if fixable else old.uuid,
        label=label if fixable else old.label,
        partuuid=_partuuid(disk, guid, old),
        partlabel=f"copy-{name}" if old.name else "",
    )


def _partuuid(disk: Disk, guid: str, old: Partition) -> str:
    if disk.table == "gpt":
        return str(_made(disk, f"part{old.number}", old.partuuid))
    return f"{guid.removeprefix('0x')}-{old.number:02x}"


def _made(disk: Disk, what: str, old: str) -> uuid.UUID:
    return uuid.uuid5(_SPACE, f"{disk.serial or disk.wwn}/{what}/{old}")
