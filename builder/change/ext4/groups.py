# SPDX-License-Identifier: GPL-3.0-or-later
"""Group descriptors: where bitmaps and inode tables are, how far the tables are in use.

Source: the kernel's Documentation/filesystems/ext4/group_descr.rst.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from builder.change.detector import Readable, UseCompare
from builder.change.ext4.features import Shape
from builder.change.ext4.gather import Numbers
from builder.change.ext4.reading import Reading
from core.model.blockset import BlockSet

INODE_UNINIT: Final = 0x1
BLOCK_UNINIT: Final = 0x2
INODE_ZEROED: Final = 0x4

_WINDOW: Final = 64
"""Groups whose bitmaps are held at once: 2 MiB of 4 KiB blocks."""


@dataclass(frozen=True, slots=True)
class Groups:
    """All group descriptors of one side, as columns; the places are block numbers."""

    block_bitmap: Numbers
    inode_bitmap: Numbers
    table: Numbers
    flags: npt.NDArray[np.int64]
    """0 where the file system has no checksums: then flags mean nothing."""
    inodes_used: Numbers
    """How many inodes from the first on may be in use; behind them none ever was, or is now."""

    def same_places(self, other: "Groups") -> bool:
        """Whether bitmaps and tables lie in the same places."""
        return (
            np.array_equal(self.block_bitmap, other.block_bitmap)
            and np.array_equal(self.inode_bitmap, other.inode_bitmap)
            and np.array_equal(self.table, other.table)
        )


def read_groups(reading: Reading, device: Readable, shape: Shape) -> Groups:
    """Read the first copy of the group descriptors. Raises UseCompare when they make no sense."""
    block, count = shape.base.block, shape.base.groups
    first = shape.base.first_block + 1
    offsets = (first + np.arange(shape.desc_blocks, dtype=np.int64)) * block
    room = np.frombuffer(reading.fetch(device, offsets, block), np.uint8)
    rows = room[: count * shape.desc_size].reshape(count, shape.desc_size)
    block_bitmap, inode_bitmap, table = (
        _field(rows, low, 4) | _field(rows, high, 4) << 32
        for low, high in ((0x0, 0x20), (0x4, 0x24), (0x8, 0x28))
    )
    for places, length in ((block_bitmap, 1), (inode_bitmap, 1), (table, shape.table_blocks)):
        if (places <= shape.base.first_block).any() or (places + length > shape.base.blocks).any():
            raise UseCompare("its group descriptors make no sense")
    flags = np.zeros(count, dtype=np.int64)
    used = np.full(count, shape.base.inodes_per_group, dtype=np.int64)
    if shape.checksummed:
        flags = _field(rows, 0x12, 2)
        unused = _field(rows, 0x1C, 2) | _field(rows, 0x32, 2) << 16
        used = np.where(flags & INODE_UNINIT, 0, used - unused)
        if (used < 0).any():
            raise UseCompare("its group descriptors make no sense")
    return Groups(block_bitmap, inode_bitmap, table, flags, used)


def _field(rows: npt.NDArray[np.uint8], at: int, length: int) -> Numbers:
    """One little-endian field of all descriptors; 0 where they are too short to have it."""
    if at + length > rows.shape[1]:
        return np.zeros(len(rows), dtype=np.int64)
    column = np.ascontiguousarray(rows[:, at : at + length])
    return column.view(f"<u{length}")[:, 0].astype(np.int64)


def tables(shape: Shape, groups: Groups) -> BlockSet:
    """The inode tables, as bytes."""
    starts = groups.table * shape.base.block
    return BlockSet.of(np.column_stack((starts, starts + shape.table_blocks * shape.base.block)))


def bitmaps(shape: Shape, groups: Groups) -> BlockSet:
    """Block and inode bitmaps, as bytes."""
    starts = np.concatenate((groups.block_bitmap, groups.inode_bitmap)) * shape.base.block
    return BlockSet.of(np.column_stack((starts, starts + shape.base.block)))


def whole_tables(shape: Shape, volume: Groups, slot: Groups) -> BlockSet:
    """The inode tables, as bytes, of which more may differ than the inodes that were ever used.

    While the kernel has not yet zeroed a table (it does so in the background after the first
    mount) there is old rubbish behind these, and it may be gone any time.
    """
    if not shape.checksummed:
        return BlockSet.of([])
    moving = (volume.flags != slot.flags) | (volume.flags & INODE_ZEROED == 0)
    starts = volume.table[moving] * shape.base.block
    return BlockSet.of(np.column_stack((starts, starts + shape.table_blocks * shape.base.block)))


def used_blocks(
    reading: Reading, device: Readable, shape: Shape, groups: Groups
) -> Iterator[tuple[int, int, BlockSet]]:
    """The blocks in use by the bitmaps, some groups at a time, as bytes.

    Yields the beginning and the end of the range that was looked at, and what is used in it. A
    group that has no bitmap yet counts as empty.
    """
    base = shape.base
    for first in range(0, base.groups, _WINDOW):
        last = min(first + _WINDOW, base.groups)
        some = slice(first, last)
        room = reading.fetch(device, groups.block_bitmap[some] * base.block, base.block)
        rows = np.frombuffer(room, np.uint8, (last - first) * base.block)
        bits = np.unpackbits(rows.reshape(last - first, -1), axis=1, bitorder="little")
        bits = np.ascontiguousarray(bits[:, : base.blocks_per_group])
        bits[groups.flags[some] & BLOCK_UNINIT != 0] = 0
        start = base.first_block + first * base.blocks_per_group
        end = min(base.first_block + last * base.blocks_per_group, base.blocks)
        row = bits.reshape(-1)[: end - start]
        turns = np.flatnonzero(row[1:] != row[:-1]) + 1
        edges = np.concatenate(([0] * int(row[0]), turns, [len(row)] * int(row[-1])))
        ranges = edges.astype(np.int64).reshape(-1, 2)
        yield start * base.block, end * base.block, BlockSet((ranges + start) * base.block)
