# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a partition of a given type begins: just enough of GPT to check a boot sector by."""

import struct
from typing import Final
from uuid import UUID

from grub import sectors

BIOS_BOOT: Final = UUID("21686148-6449-6e6f-744e-656564454649")
_MOST: Final = 1024
"""Entries; a table that claims more is damaged."""


def has_table(disk: str) -> bool:
    """Whether the disk has a GPT."""
    return sectors.read(disk, sectors.size_of(disk), 8) == b"EFI PART"


def start_of(disk: str, kind: UUID) -> int | None:
    """Byte at which the first partition of type `kind` begins; None: there is none, or no GPT."""
    sector = sectors.size_of(disk)
    if not has_table(disk):
        return None
    header = sectors.read(disk, sector, 92)
    first, count, size = struct.unpack_from("<QII", header, 72)
    if size < 128 or not 0 < count <= _MOST:
        return None
    table = sectors.read(disk, first * sector, count * size)
    for at in range(0, count * size, size):
        if UUID(bytes_le=table[at : at + 16]) == kind:
            return int(struct.unpack_from("<Q", table, at + 32)[0]) * sector
    return None
