# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that look like signed UEFI programs, and do nothing."""

import struct


def program(content: bytes, signature: bytes = b"a signature", machine: int = 0x8664) -> bytes:
    """A PE32+ image with `content` in it; without `signature` it carries none."""
    head = bytearray(0x200)
    head[:2] = b"MZ"
    struct.pack_into("<I", head, 0x3C, 0x80)
    head[0x80:0x86] = b"PE\0\0" + struct.pack("<H", machine)
    optional = 0x80 + 24
    struct.pack_into("<H", head, optional, 0x20B)
    if signature:
        at = len(head) + len(content)
        struct.pack_into("<II", head, optional + 112 + 8 * 4, at, len(signature))
    return bytes(head) + content + signature
