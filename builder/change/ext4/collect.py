# SPDX-License-Identifier: GPL-3.0-or-later
"""Collects what changed inodes point to: data, tree blocks, and what was never written."""

from typing import Final

import numpy as np

from builder.change.detector import Readable, UseCompare
from builder.change.ext4 import extents
from builder.change.ext4.extents import Leaves, Words
from builder.change.ext4.features import Shape
from builder.change.ext4.gather import Gatherer, Mask, Numbers
from builder.change.ext4.reading import Reading
from builder.change.ext4.trees import Nodes, walk

_MOST_NODES: Final = 4_000_000
_NONE: Final = np.empty(0, dtype=np.int64)


class Collector:
    """What was found so far on the volume's side."""

    def __init__(self, reading: Reading, shape: Shape, volume: Readable) -> None:
        self._reading = reading
        self._shape = shape
        self._volume = volume
        self._nodes: list[Numbers] = []
        self._count = 0
        self.found = Gatherer(widen=True)
        """Candidates, in bytes."""
        self.unwritten = Gatherer(widen=False)
        """Ranges, in bytes, that belong to a file but were never written: nobody can read them."""

    def add_blocks(self, numbers: Numbers) -> None:
        """Add single blocks."""
        starts = numbers * self._shape.base.block
        self.found.add(starts, starts + self._shape.base.block)

    def add_leaves(self, leaves: Leaves) -> None:
        """Add extents."""
        block = self._shape.base.block
        starts, ends = leaves.start * block, (leaves.start + leaves.length) * block
        written = ~leaves.unwritten
        self.found.add(starts[written], ends[written])
        self.unwritten.add(starts[leaves.unwritten], ends[leaves.unwritten])

    def add_trees(
        self,
        roots: Words,
        numbers: Numbers,
        dirty: Mask,
        slot: Readable | None = None,
        known: Numbers = _NONE,
    ) -> tuple[Numbers, Numbers]:
        """Add what the extent trees of some inodes hold.

        All of it where `dirty`, else what lies in and below nodes that differ from `slot`; but
        nothing in and below nodes that are `known` (sorted).
        Returns the numbers of inodes whose tree is broken, and of those with dirty nodes.
        """  # fmt: skip
        depth = extents.depths(roots)
        self.add_leaves(extents.leaves(roots[(depth == 0) & dirty], self._shape.base.blocks))
        deep = depth > 0
        parents = Nodes(numbers[deep], depth[deep], dirty[deep], numbers[deep])
        nodes = parents.below(roots[deep], self._shape.base.blocks)
        broken, moved = self.add_nodes(nodes, slot, known)
        return np.concatenate((numbers[depth < 0], broken)), moved

    def add_nodes(
        self, nodes: Nodes, slot: Readable | None = None, known: Numbers = _NONE
    ) -> tuple[Numbers, Numbers]:
        """The same, for some nodes and what is below them."""
        broken, moved = [_NONE], [_NONE]
        for seen in walk(self._reading, self._shape, self._volume, slot, nodes, known):
            dirty = seen.nodes.take(seen.nodes.dirty)
            self.add_blocks(dirty.block)
            self.add_leaves(seen.leaves)
            self._nodes.append(dirty.block)
            self._count += len(dirty)
            if self._count > _MOST_NODES:
                raise UseCompare("more of its fragmented files changed than can be kept in mind")
            broken.append(np.unique(seen.nodes.inode[~seen.valid]))
            moved.append(np.unique(dirty.inode))
        return np.unique(np.concatenate(broken)), np.unique(np.concatenate(moved))

    def take_nodes(self) -> Numbers:
        """The numbers of all tree blocks that were added since the last call."""
        nodes = np.concatenate([_NONE, *self._nodes])
        self._nodes.clear()
        return nodes
