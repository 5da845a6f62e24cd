# SPDX-License-Identifier: GPL-3.0-or-later
"""Two hashes by which a slot shows that somebody else has written to it: a mount changes both."""

import struct
from typing import Final

from builder.change import superblock
from builder.copying.direct import Reader, buffer
from builder.vault.manifests import digest

_JOURNAL_BACKUP: Final = 0x10C
"""`s_jnl_blocks`: the journal inode's i_block, kept in the superblock by mke2fs."""
_HAS_EXTENTS: Final = 0xF30A


def of_ext4(slot: Reader) -> tuple[str, str]:
    """Hashes of the superblock's block and of the journal's first block, in hex.

    The second is empty where the journal cannot be found from the superblock alone (none, or
    mapped by a tree of extents). Raises ReadFailed, CannotCopyFileSystem.
    """
    first = buffer(superblock.AT + superblock.SIZE + 2048)
    slot.read_into(0, first)
    found = bytes(first[superblock.AT : superblock.AT + superblock.SIZE])
    block = superblock.parse(found, "the slot").block
    start = _journal(found)
    return digest(found), _hash(slot, start * block, block) if start else ""


def _journal(found: bytes) -> int:
    """Number of the journal's first block, 0 when it cannot be told."""
    magic, entries, _most, depth = struct.unpack_from("<4H", found, _JOURNAL_BACKUP)
    if magic != _HAS_EXTENTS or depth or not entries:
        return 0
    logical, _length, high, low = struct.unpack_from("<I2HI", found, _JOURNAL_BACKUP + 12)
    return 0 if logical else low | high << 32


def _hash(slot: Reader, offset: int, size: int) -> str:
    # A read past the page cache must begin and end at sectors, which may be larger than blocks.
    begin = offset - offset % 4096
    view = buffer(max(size, 4096) + 4096)
    slot.read_into(begin, view)
    return digest(bytes(view[offset - begin : offset - begin + size]))
