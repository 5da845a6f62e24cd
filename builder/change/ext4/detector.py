# SPDX-License-Identifier: GPL-3.0-or-later
"""The `ext4` detector: what may differ, told by the inode tables of both sides.

An inode that is alike on both sides, down to the nanoseconds of its time stamps, has the same data
on both: whoever writes data writes a time stamp, too. The exceptions are dealt with one by one;
each precaution stands for a difference that was missed without it (DESIGN sections 4 and 10).

While `find` reads, the file system moves on. That does no harm: whatever is written meanwhile is
seen by the tracker and copied. But data may also change hands without being written: the extents
of an inode move from its root into a block of their own while we are about to look at them. So
inodes and tree blocks that were written are parsed again, and what they point to is a candidate
unless it was one already. Inodes that were found alike are spared that: nothing of theirs was
missed. The last time, in the freeze, nothing moves any more.
"""

from typing import Final

import numpy as np

from builder.change.detector import Early, Readable, UseCompare, nobody
from builder.change.ext4 import extents, features, groups, inodes
from builder.change.ext4.collect import Collector
from builder.change.ext4.extents import Words
from builder.change.ext4.features import Shape
from builder.change.ext4.gather import Gatherer, Mask, Numbers, touched, window, without
from builder.change.ext4.groups import Groups
from builder.change.ext4.reading import Reading
from builder.change.ext4.tables import Batch, Tables
from builder.change.ext4.trees import Nodes
from builder.change.superblock import AT, SIZE
from builder.copying.direct import buffer
from core.model.blockset import EMPTY, BlockSet
from core.screen import Advance

_SECTOR: Final = 4096
"""Largest sector of a disk: nothing smaller is read."""
_AT_ONCE: Final = 1024
"""Blocks of inode table that `reparse` looks at at once."""


class Ext4:
    """The detector for one volume and its slot; builder/change/detector.py says how to use it.

    Raises UseCompare when it is made for a file system that it does not understand, or for a slot
    that no backup of this volume left as it is; ReadFailed.
    """

    name = "ext4"

    def __init__(self, volume: Readable, slot: Readable) -> None:
        self._volume, self._slot = volume, slot
        self._shape = _understand(volume)
        try:
            copy = _understand(slot)
        except UseCompare:
            raise UseCompare("the slot holds no complete copy of it") from None
        features.one_origin(self._shape, copy)
        self._reading = Reading()
        ours = groups.read_groups(self._reading, volume, self._shape)
        self._tables = Tables(self._shape, ours)
        self._places = groups.tables(self._shape, ours)
        self.work = self._tables.total
        self._alike = np.zeros(-(-self._shape.base.inodes // 8), dtype=np.uint8)
        """One bit for each inode: in use and alike on both sides when `find` looked at it."""
        self._known = np.empty(0, dtype=np.int64)
        """Sorted numbers of the tree blocks of inodes that were not alike."""
        self._broken: set[int] = set()
        """Numbers of inodes that made no sense: read while they changed, or damaged."""
        self._covered = (EMPTY, EMPTY)
        """What is copied already: what `find` found, and what came since."""
        self._differ = Gatherer(widen=False)
        """Blocks of inode table that were seen to differ."""
        self.sure = EMPTY

    @property
    def examined(self) -> int:
        """Bytes read so far, both sides together."""
        return self._reading.examined

    def find(
        self, used: BlockSet, always: BlockSet, advance: Advance, early: Early = nobody
    ) -> BlockSet:
        shape, block = self._shape, self._shape.base.block
        with self._reading as reading:
            ours = groups.read_groups(reading, self._volume, shape)
            theirs = groups.read_groups(reading, self._slot, shape)
            if not ours.same_places(theirs):
                raise UseCompare("its inode tables were moved since the last backup")
            self._tables = Tables(shape, ours, theirs)
            collector = Collector(reading, shape, self._volume)
            self._add_hidden_files(collector)
            early(collector.found.result())  # the journal is long, and most of it is alike
            for batch in self._tables.batches(reading, self._volume, self._slot):
                self._look(collector, batch)
                advance(len(batch.offsets) * block)
            fresh = self._add_new_blocks(collector, used, ours, theirs)
            self.sure = fresh.union(self._differ.result())
        found = collector.found.result()
        if collector.found.grain > 1:
            found = _cut(found, used)
        found = found.union(
            always.aligned(block),
            shape.heads(),
            groups.bitmaps(shape, ours),
            groups.whole_tables(shape, ours, theirs),
        ).within(shape.base.size)
        self._known = np.unique(collector.take_nodes())
        self._covered = (found, EMPTY)
        return found

    def reparse(self, written: BlockSet, *, still: bool) -> BlockSet:
        base = self._shape.base
        written = written.aligned(base.block)
        collector = Collector(self._reading, self._shape, self._volume)
        broken: set[int] = set()
        known = self._known_in(written)
        if len(known):
            words = self._reading.words(self._volume, known, base.block)
            depth = extents.depths(words)
            collector.add_leaves(extents.leaves(words[depth == 0], base.blocks))
            inner = depth > 0
            all_dirty = np.ones(len(known), dtype=bool)
            parents = Nodes(known, depth, all_dirty, np.zeros_like(known)).take(inner)
            collector.add_nodes(parents.below(words[inner], base.blocks), known=self._known)
        for start, end in self._table_parts(written).pieces(_AT_ONCE * base.block):
            offsets = np.arange(start, end, base.block, dtype=np.int64)
            numbers, rows = self._tables.read(self._reading, self._volume, offsets)
            changed = inodes.has_extents(rows) & ~self._is_alike(numbers)
            broken.update(self._add_all(collector, numbers[changed], rows[changed]))
        suspects, self._broken = sorted(self._broken | broken), set()
        for number in suspects:
            row = self._row(number)
            if inodes.has_extents(row)[0]:
                self._broken.update(self._add_all(collector, np.array([number]), row, again=True))
        if still and (damaged := self._in_use(self._broken)):
            raise UseCompare(f"the extents of inode {damaged[0]} make no sense: run e2fsck")
        main, since = self._covered
        result = without(without(collector.found.result(), main), since).minus(written)
        self._known = np.union1d(self._known, collector.take_nodes())
        self._covered = (main, since.union(written, result))
        return result

    # --- the parts of find ----------------------------------------------------------------------

    def _add_hidden_files(self, collector: Collector) -> None:
        """What the kernel writes without a time stamp: journal, orphan file, quota."""
        shape = self._shape
        for number in (shape.journal, shape.orphans, *shape.quotas):
            if number:
                row = self._row(number)
                broken = self._add_all(collector, np.array([number]), row)
                if broken or not inodes.has_extents(row)[0]:
                    raise UseCompare(f"inode {number} (journal, orphans, quota) has no extents")

    def _add_all(
        self, collector: Collector, numbers: Numbers, rows: Words, *, again: bool = False
    ) -> list[int]:
        """Add the extents of some inodes, but for known nodes unless `again`.

        Returns the numbers of those that make no sense.
        """
        broken, _ = collector.add_trees(
            inodes.roots(rows), numbers, np.ones(len(numbers), dtype=bool),
            known=self._known[:0] if again else self._known,
        )  # fmt: skip
        return [int(number) for number in broken]

    def _look(self, collector: Collector, batch: Batch) -> None:
        """Compare some inodes of both sides."""
        blocks, per_block = self._shape.base.blocks, self._tables.per_block
        inodes.refuse_block_maps(batch.ours, batch.numbers, batch.in_use)
        differing = inodes.differing(batch.ours, batch.theirs)
        if len(differing):
            offsets = batch.offsets[np.unique(differing // per_block)]
            for gatherer in (collector.found, self._differ):
                gatherer.add(offsets, offsets + self._shape.base.block)
        flagged = inodes.blind(batch.ours) & batch.in_use
        moved = inodes.meaningful(batch.ours[differing], batch.theirs[differing])
        flagged[differing[moved]] = True
        for side in (batch.ours, batch.theirs):  # shared blocks count their sharers
            collector.add_blocks(inodes.xattr_blocks(side[flagged], blocks))
        # The boot loader's inode may take over the blocks of any file (EXT4_IOC_SWAP_BOOT).
        alike = batch.in_use & ~flagged & (batch.numbers != inodes.BOOT_LOADER)
        self._remember(batch.numbers, alike)
        trees = np.flatnonzero(batch.in_use & inodes.has_extents(batch.ours))
        trees = trees[flagged[trees] | (inodes.depth_bits(batch.ours)[trees] != 0)]
        broken, dirty = collector.add_trees(
            inodes.roots(batch.ours[trees]), batch.numbers[trees], flagged[trees], self._slot
        )
        self._forget(np.union1d(broken, dirty))
        self._broken.update(broken.tolist())

    def _add_new_blocks(
        self, collector: Collector, used: BlockSet, ours: Groups, theirs: Groups
    ) -> BlockSet:
        """Add what is used in the volume and not in the slot, but for what was never written.

        Returns it, too, or a part of it where it is in very many pieces.
        """
        metadata = groups.tables(self._shape, ours).union(
            groups.bitmaps(self._shape, ours), self._shape.whole_heads()
        )
        unwritten = collector.unwritten.result()
        fresh = Gatherer(widen=False)
        for start, end, in_slot in groups.used_blocks(
            self._reading, self._slot, self._shape, theirs
        ):
            new = window(used, start, end).minus(in_slot)
            for known in (metadata, unwritten):
                new = new.minus(window(known, start, end))
            collector.found.add_set(new)
            fresh.add_set(new)
        return fresh.result()

    def _row(self, number: int) -> Words:
        """One inode of the volume: shape (1, words)."""
        offsets = np.array([self._tables.offset(number)], dtype=np.int64)
        numbers, rows = self._tables.read(self._reading, self._volume, offsets)
        row: Words = rows[numbers == number]
        return row

    def _in_use(self, numbers: set[int]) -> list[int]:
        """Those of some inodes that are in use; others may hold any rubbish."""
        return [n for n in sorted(numbers) if self._tables.in_use(self._reading, self._volume, n)]

    # --- what is remembered for reparse ---------------------------------------------------------

    def _remember(self, numbers: Numbers, alike: Mask) -> None:
        """`numbers` come in runs of eight, as the bits do."""
        self._alike[(numbers[::8] - 1) >> 3] = np.packbits(alike, bitorder="little")

    def _forget(self, numbers: Numbers) -> None:
        for index in (numbers - 1).tolist():
            self._alike[index >> 3] &= ~(1 << (index & 7)) & 0xFF

    def _is_alike(self, numbers: Numbers) -> Mask:
        bits: Mask = (self._alike[(numbers - 1) >> 3] >> ((numbers - 1) & 7)) & 1 != 0
        return bits

    def _known_in(self, written: BlockSet) -> Numbers:
        """The known tree blocks within some ranges."""
        edges = written.ranges // self._shape.base.block
        first, last = (np.searchsorted(self._known, edges[:, column]) for column in (0, 1))
        parts = [self._known[a:b] for a, b in zip(first.tolist(), last.tolist(), strict=True)]
        return np.concatenate([self._known[:0], *parts])

    def _table_parts(self, written: BlockSet) -> BlockSet:
        """The parts of inode tables within some ranges, in whole blocks."""
        return touched(self._places, written).intersect(written)


def _understand(device: Readable) -> Shape:
    room = buffer(_SECTOR)
    device.read_into(0, room)
    return features.understand(bytes(room[AT : AT + SIZE]))


def _cut(blocks: BlockSet, used: BlockSet) -> BlockSet:
    """`blocks.intersect(used)` piece by piece: both may be very large."""
    step = 100_000
    parts = []
    for at in range(0, len(blocks), step):
        part = BlockSet(blocks.ranges[at : at + step])
        first, last = int(part.ranges[0, 0]), int(part.ranges[-1, 1])
        parts.append(part.intersect(window(used, first, last)))
    return EMPTY.union(*parts)
