# SPDX-License-Identifier: GPL-3.0-or-later
"""Inodes: what differs between two rows of the table, and what a row says. Pure.

Source: the kernel's Documentation/filesystems/ext4/inodes.rst.
"""

from typing import Final

import numpy as np

from builder.change.detector import UseCompare
from builder.change.ext4.extents import ROOT_BYTES, Words
from builder.change.ext4.gather import Mask, Numbers

BAD_BLOCKS: Final = 1
BOOT_LOADER: Final = 5
RESIZE: Final = 7

_EXTENTS: Final = 0x80000
_KERNEL_WRITES: Final = 0x10 | 0x80
"""Immutable and no-atime together: the kernel sets them on quota files of the old kind, and
writes these without a new time stamp."""
_FOLDER: Final = 0x4000
_FILE: Final = 0x8000
_LINK: Final = 0xA000
_LONGEST_FAST_LINK: Final = 59
_STAMPED: Final = 12
"""Extra bytes of an inode that hold the nanoseconds of ctime and mtime."""
_READ_STAMPED: Final = 16
"""And those of atime."""


def rows(room: memoryview, count: int, inode_size: int) -> Words:
    """`count` inodes as 32-bit words: shape (count, inode_size / 4)."""
    return np.frombuffer(room, "<u4", count * inode_size // 4).reshape(count, inode_size // 4)


def extra(words: Words) -> Numbers:
    """Bytes of each inode, behind the first 128, that hold fields."""
    return words[:, 32].astype(np.int64) & 0xFFFF


def differing(ours: Words, theirs: Words) -> Numbers:
    """The rows in which two pieces of table differ."""
    return np.flatnonzero((ours.view("<u8") != theirs.view("<u8")).any(axis=1))


def meaningful(ours: Words, theirs: Words) -> Mask:
    """Which rows differ in more than the time of the last read (and so in the checksum).

    Reading a file changes nothing else: its blocks, and its other two stamps, stay as they are.
    """
    delta: Words = ours ^ theirs
    delta[:, 2] = 0
    delta[:, 31] &= 0xFFFF0000
    delta[:, 32] &= 0x0000FFFF
    stamped = np.minimum(extra(ours), extra(theirs)) >= _READ_STAMPED
    delta[stamped, 35] = 0
    return np.asarray(delta.any(axis=1))


def blind(words: Words) -> Mask:
    """Which inodes may stay alike although their data changed.

    Without the nanoseconds, a write in the second of the last backup leaves no trace. (An inode
    with no extra bytes at all was made by mke2fs, and gets them with the first change.)
    """
    size = extra(words)
    coarse = (size > 0) & (size < _STAMPED)
    flags = words[:, 8]
    kernels: Mask = flags & _KERNEL_WRITES == _KERNEL_WRITES
    return coarse | kernels


def kinds(words: Words) -> Numbers:
    """File type bits of the mode; 0 for an inode that was never used."""
    return words[:, 0].astype(np.int64) & 0xF000


def has_extents(words: Words) -> Mask:
    """Which inodes say that they have an extent tree."""
    kind = kinds(words)
    found: Mask = words[:, 8] & _EXTENTS != 0
    return found & np.isin(kind, (_FILE, _FOLDER, _LINK))


def roots(words: Words) -> Words:
    """The roots of the extent trees."""
    return words[:, 10 : 10 + ROOT_BYTES // 4]


def depth_bits(words: Words) -> Numbers:
    """Depth of each extent tree, as it is written there."""
    return words[:, 11].astype(np.int64) >> 16


def xattr_blocks(words: Words, blocks: int) -> Numbers:
    """Numbers of the blocks of extended attributes, each once."""
    found = words[:, 26].astype(np.int64) | (words[:, 29] >> 16).astype(np.int64) << 32
    return np.unique(found[(found > 0) & (found < blocks)])


def refuse_block_maps(words: Words, numbers: Numbers, in_use: Mask) -> None:
    """Raise UseCompare when an inode in use keeps its data in the way of ext2 and ext3."""
    suspects = np.flatnonzero(in_use & (words[:, 8] & _EXTENTS == 0) & (numbers != RESIZE))
    # Most are short symbolic links, devices and sockets.
    some = words[suspects]
    kind = kinds(some)
    data = (kind == _FILE) | (kind == _FOLDER)
    data |= (kind == _LINK) & (some[:, 1] > _LONGEST_FAST_LINK)
    mapped = data & roots(some).any(axis=1)
    mapped |= (numbers[suspects] == BAD_BLOCKS) & (some[:, 7] != 0)
    if mapped.any():
        number = int(numbers[suspects[mapped][0]])
        if number == BAD_BLOCKS:
            raise UseCompare("it has a list of bad blocks")
        raise UseCompare(f"inode {number} is block-mapped")
