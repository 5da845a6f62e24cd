# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a superblock that changed was written by somebody, or is damaged. Pure.

Source: the kernel's Documentation/filesystems/ext4/super.rst; CRC-32C without the final inversion.
"""

import struct
from typing import Final

_METADATA_CSUM: Final = 0x400
_CHECKSUM: Final = 0x3FC
_POLYNOMIAL: Final = 0x82F63B78


def makes_sense(found: bytes) -> bool:
    """Whether these 1,024 bytes are a superblock that a kernel or a program wrote."""
    if struct.unpack_from("<H", found, 0x38)[0] != 0xEF53:
        return False
    if not struct.unpack_from("<I", found, 0x64)[0] & _METADATA_CSUM:
        return True
    wanted: int = struct.unpack_from("<I", found, _CHECKSUM)[0]
    return crc32c(found[:_CHECKSUM]) == wanted


def crc32c(data: bytes) -> int:
    """CRC-32C as ext4 has it: from ~0 on, not inverted at the end."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
    return value
