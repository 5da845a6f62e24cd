# SPDX-License-Identifier: GPL-3.0-or-later
"""Extent trees: what a node says, for many nodes at once. Pure.

A node is an inode's 60 bytes (its root) or a block. All numbers on disk are little-endian.
Source: the kernel's Documentation/filesystems/ext4/ifork.rst.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from builder.change.ext4.gather import Mask, Numbers

ROOT_BYTES: Final = 60
DEEPEST: Final = 5
_MAGIC: Final = 0xF30A
_LONGEST: Final = 32768
"""Blocks of the longest written extent; an unwritten one says its length plus this."""

Words = npt.NDArray[np.uint32]
"""Nodes as 32-bit words, one row each: shape (nodes, bytes of a node / 4)."""


@dataclass(frozen=True, slots=True)
class Leaves:
    """Extents of several leaves: `node[i]` says of which row; the rest in blocks."""

    node: Numbers
    start: Numbers
    length: Numbers
    unwritten: Mask


def depths(words: Words) -> Numbers:
    """Depth of each node, -1 where it is no node."""
    magic, entries = words[:, 0] & 0xFFFF, words[:, 0] >> 16
    most, depth = words[:, 1] & 0xFFFF, words[:, 1] >> 16
    room = (words.shape[1] * 4 - 12) // 12
    valid = (magic == _MAGIC) & (entries <= most) & (most <= room) & (depth <= DEEPEST)
    return np.where(valid, depth.astype(np.int64), -1)


def leaves(words: Words, blocks: int) -> Leaves:
    """The extents of nodes of depth 0, but for those outside a file system of `blocks` blocks."""
    node, entry = _entries(words)
    length = (entry[:, 1] & 0xFFFF).astype(np.int64)
    start = entry[:, 2].astype(np.int64) | (entry[:, 1] >> 16).astype(np.int64) << 32
    unwritten = length > _LONGEST
    length = np.where(unwritten, length - _LONGEST, length)
    sane = (start > 0) & (length > 0) & (start + length <= blocks)
    return Leaves(node[sane], start[sane], length[sane], unwritten[sane])


def children(words: Words, blocks: int) -> tuple[Numbers, Numbers]:
    """Of nodes of depth 1 and more: the row of each child's parent, and the child's block."""
    node, entry = _entries(words)
    block = entry[:, 1].astype(np.int64) | (entry[:, 2] & 0xFFFF).astype(np.int64) << 32
    sane = (block > 0) & (block < blocks)
    return node[sane], block[sane]


def _entries(words: Words) -> tuple[Numbers, Words]:
    """The entries in use: the row of each one's node, and its three words."""
    room = (words.shape[1] * 4 - 12) // 12
    table = words[:, 3 : 3 + 3 * room].reshape(len(words), room, 3)
    used = np.arange(room) < (words[:, 0] >> 16)[:, None]
    return np.nonzero(used)[0].astype(np.int64), table[used]
