# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the DPSR disk still fits the system, for `dpsr status`: seen quickly, without numpy."""

import os
import struct
from pathlib import Path
from typing import Final

from builder.plan.fstab import parse_fstab
from builder.plan.guards import find_primary
from builder.plan.shape import Shape
from builder.plan.volumes import choose_again
from core.errors import ToolError
from core.model.machine import Disk, Machine
from core.settings import BackupSet

_FSTAB: Final = Path("/etc/fstab")
_INCOMPAT: Final = 0x60
_64BIT: Final = 0x80


def shape_now(machine: Machine, known: BackupSet, disk: Disk | None) -> tuple[str, ...]:
    """What a person should know of, a sentence each. Sees grown file systems only as root."""
    places = [volume.mountpoint for volume in known.volume]
    try:
        fstab = parse_fstab(_FSTAB.read_text("utf-8"))
        _, shape = choose_again(machine, find_primary(machine), places, known.exclude, fstab)
    except OSError:
        return ()
    except ToolError as reason:
        return (str(reason).removesuffix(" Nothing was written."),)
    grown = Shape(grown=tuple(_grown(machine, known, disk))) if disk else Shape()
    return (*shape.sentences(), *grown.sentences())


def _grown(machine: Machine, known: BackupSet, disk: Disk) -> list[tuple[str, int, int]]:
    slots = {part.number: part.size for part in disk.partitions}
    found = []
    for volume in known.volume:
        mount, slot = machine.mount_at(volume.mountpoint), slots.get(volume.slot_number)
        if mount is not None and slot is not None and volume.fstype == "ext4":
            size = _size_of_ext4(mount.source)
            if size > slot:
                found.append((volume.mountpoint, size, slot))
    return found


def _size_of_ext4(device: str) -> int:
    """Bytes, from the superblock (its offsets: 4 and 0x150 blocks, 0x18 their size); 0: unknown."""
    try:
        with open(device, "rb", buffering=0) as stream:
            data = os.pread(stream.fileno(), 1024, 1024)
    except OSError:
        return 0
    if len(data) < 1024 or data[0x38:0x3A] != b"\x53\xef":
        return 0
    low, high, log, incompat = (
        int(struct.unpack_from("<I", data, at)[0]) for at in (4, 0x150, 0x18, _INCOMPAT)
    )
    return (low | (high << 32 if incompat & _64BIT else 0)) * (1024 << min(log, 6))
