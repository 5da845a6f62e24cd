# SPDX-License-Identifier: GPL-3.0-or-later
"""Just enough of GPT to check a boot sector by, and to find a DPSR disk without any library."""

import struct
from collections.abc import Iterator
from typing import Final
from uuid import UUID

from grub import sectors

BIOS_BOOT: Final = UUID("21686148-6449-6e6f-744e-656564454649")
_MOST: Final = 1024
"""Entries; a table that claims more is damaged."""


def has_table(disk: str) -> bool:
    """Whether the disk has a GPT."""
    return sectors.read(disk, sectors.size_of(disk), 8) == b"EFI PART"


def guid_of(disk: str) -> str:
    """The GUID of the disk, in small letters; empty: there is no GPT."""
    sector = sectors.size_of(disk)
    header = sectors.read(disk, sector, 92)
    return str(UUID(bytes_le=header[56:72])) if header.startswith(b"EFI PART") else ""


def start_of(disk: str, kind: UUID) -> int | None:
    """Byte at which the first partition of type `kind` begins; None: there is none, or no GPT."""
    sector = sectors.size_of(disk)
    for _, entry in _entries(disk):
        if UUID(bytes_le=entry[:16]) == kind:
            return int(struct.unpack_from("<Q", entry, 32)[0]) * sector
    return None


def named(disk: str) -> dict[str, int]:
    """The partitions of the disk: name and number."""
    return {
        entry[56:128].decode("utf-16-le", "replace").rstrip("\0"): number
        for number, entry in _entries(disk)
        if any(entry[:16])
    }


def _entries(disk: str) -> Iterator[tuple[int, bytes]]:
    """Number and content of each entry, empty ones too; none where the table makes no sense."""
    sector = sectors.size_of(disk)
    if not has_table(disk):
        return
    header = sectors.read(disk, sector, 92)
    first, count, size = struct.unpack_from("<QII", header, 72)
    if size < 128 or not 0 < count <= _MOST:
        return
    table = sectors.read(disk, first * sector, count * size)
    for number in range(count):
        yield number + 1, table[number * size : (number + 1) * size]
