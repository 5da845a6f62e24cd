# SPDX-License-Identifier: GPL-3.0-or-later
"""The inode tables of both sides, in batches: the next is read while one is looked at."""

from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final

import numpy as np

from builder.change.detector import Readable
from builder.change.ext4 import inodes
from builder.change.ext4.extents import Words
from builder.change.ext4.features import Shape
from builder.change.ext4.gather import Mask, Numbers
from builder.change.ext4.groups import INODE_UNINIT, Groups
from builder.change.ext4.reading import Reading, wait
from builder.copying.direct import buffer

_BATCH: Final = 4 << 20
"""Bytes of inode table that are looked at at once, of each side."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Some inodes of both sides, good until the next batch is asked for."""

    numbers: Numbers
    """Of the inodes."""
    offsets: Numbers
    """Of the blocks that they lie in, in bytes."""
    ours: Words
    theirs: Words
    in_use: Mask
    """By the volume's bitmap."""


class Tables:
    """Where the inodes are that have to be looked at."""

    def __init__(self, shape: Shape, ours: Groups, theirs: Groups | None = None) -> None:
        self._shape = shape
        self._groups = ours
        base = shape.base
        self.per_block = base.block // base.inode_size
        used = ours.inodes_used
        if theirs is not None:  # e2fsck may have lowered the mark
            used = np.maximum(used, theirs.inodes_used)
        # Inodes are remembered in bytes of bits: they come by eights.
        together = max(8, self.per_block)
        blocks = -(-used // together) * (together // self.per_block)
        self._ends = np.cumsum(blocks)
        self._begins = self._ends - blocks
        self._order = np.argsort(ours.table, kind="stable")
        self._sorted = ours.table[self._order]

    @property
    def total(self) -> int:
        """Bytes of one side that `batches` goes through."""
        return int(self._ends[-1]) * self._shape.base.block

    def batches(self, reading: Reading, volume: Readable, slot: Readable) -> Iterator[Batch]:
        """Everything, in order. Raises ReadFailed."""
        block = self._shape.base.block
        step = _BATCH // block
        rooms = [_Room(step, block) for _ in range(2)]
        total = int(self._ends[-1])
        ahead = self._begin(reading, volume, slot, rooms[0], 0, min(step, total))
        for first in range(0, total, step):
            now = ahead
            rooms.reverse()
            if (after := first + step) < total:
                ahead = self._begin(
                    reading, volume, slot, rooms[0], after, min(after + step, total)
                )
            yield now.done()

    def _begin(
        self,
        reading: Reading,
        volume: Readable,
        slot: Readable,
        room: "_Room",
        first: int,
        last: int,
    ) -> "_Ahead":
        """Start to read the blocks `first` to `last` of the tables, as if these were in a row."""
        which = np.arange(first, last, dtype=np.int64)
        group = np.searchsorted(self._ends, which, side="right").astype(np.int64)
        within = which - self._begins[group]
        block = self._shape.base.block
        offsets = (self._groups.table[group] + within) * block
        some, row = np.unique(group, return_inverse=True)
        if len(room.bitmaps) < len(some) * block:
            room.bitmaps = buffer(len(some) * block)
        tasks = [
            *reading.begin(volume, offsets, block, room.ours),
            *reading.begin(slot, offsets, block, room.theirs),
            *reading.begin(volume, self._groups.inode_bitmap[some] * block, block, room.bitmaps),
        ]
        return _Ahead(self, tasks, room, offsets, some, row.reshape(-1), within)

    def batch(self, ahead: "_Ahead") -> Batch:
        """What was read, in its final form."""
        base = self._shape.base
        count = len(ahead.offsets) * self.per_block
        some = ahead.groups
        bitmaps = np.frombuffer(ahead.room.bitmaps, np.uint8, len(some) * base.block)
        bits = np.unpackbits(bitmaps.reshape(len(some), base.block), axis=1, bitorder="little")
        bits[self._groups.flags[some] & INODE_UNINIT != 0] = 0
        in_use = bits.reshape(len(some), -1, self.per_block)[ahead.row, ahead.within]
        group = some[ahead.row]
        firsts = group * base.inodes_per_group + ahead.within * self.per_block + 1
        return Batch(
            numbers=(firsts[:, None] + np.arange(self.per_block)).reshape(-1),
            offsets=ahead.offsets,
            ours=inodes.rows(ahead.room.ours, count, base.inode_size),
            theirs=inodes.rows(ahead.room.theirs, count, base.inode_size),
            in_use=in_use.reshape(-1).astype(bool),
        )

    def read(self, reading: Reading, volume: Readable, offsets: Numbers) -> tuple[Numbers, Words]:
        """The inodes in the table blocks at `offsets` (bytes), and their numbers."""
        base = self._shape.base
        at = np.searchsorted(self._sorted, offsets // base.block, side="right") - 1
        within = offsets // base.block - self._sorted[at]
        firsts = self._order[at] * base.inodes_per_group + within * self.per_block + 1
        room = reading.fetch(volume, offsets, base.block)
        words = inodes.rows(room, len(offsets) * self.per_block, base.inode_size)
        return (firsts[:, None] + np.arange(self.per_block)).reshape(-1), words

    def in_use(self, reading: Reading, volume: Readable, number: int) -> bool:
        """Whether the bitmap says so of the inode of that number.

        A group that had no bitmap when the descriptors were read has no inodes in use here.
        """
        base = self._shape.base
        group, index = divmod(number - 1, base.inodes_per_group)
        if self._groups.flags[group] & INODE_UNINIT:
            return False
        room = reading.fetch(
            volume, self._groups.inode_bitmap[group, None] * base.block, base.block
        )
        return bool(room[index >> 3] >> (index & 7) & 1)

    def offset(self, number: int) -> int:
        """Where the table block begins that has the inode of that number, in bytes."""
        base = self._shape.base
        group, index = divmod(number - 1, base.inodes_per_group)
        return int(self._groups.table[group] + index // self.per_block) * base.block


class _Room:
    """Memory for one batch."""

    def __init__(self, blocks: int, block: int) -> None:
        self.ours = buffer(blocks * block)
        self.theirs = buffer(blocks * block)
        self.bitmaps = memoryview(b"")


@dataclass(frozen=True, slots=True)
class _Ahead:
    """A batch that is being read."""

    tables: Tables
    tasks: list["Future[None]"]
    room: _Room
    offsets: Numbers
    groups: Numbers
    row: Numbers
    within: Numbers

    def done(self) -> Batch:
        wait(self.tasks)
        return self.tables.batch(self)
