# SPDX-License-Identifier: GPL-3.0-or-later
"""Walks very many extent trees at once, a bounded number of blocks at a time."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from builder.change.detector import Readable
from builder.change.ext4 import extents
from builder.change.ext4.extents import Leaves, Words
from builder.change.ext4.features import Shape
from builder.change.ext4.gather import Mask, Numbers
from builder.change.ext4.reading import Reading

_CHUNK: Final = 1 << 20
"""Bytes of tree blocks that are looked at at once."""


@dataclass(frozen=True, slots=True)
class Nodes:
    """Blocks of extent trees, as columns."""

    block: Numbers
    depth: Numbers
    """That the parent makes us expect."""
    dirty: Mask
    """Whether the inode, or a node between it and this one, differs from the slot's."""
    inode: Numbers
    """Number of the inode."""

    def __len__(self) -> int:
        return len(self.block)

    def take(self, which: Numbers | Mask | slice) -> "Nodes":
        """Some of the rows."""
        return Nodes(self.block[which], self.depth[which], self.dirty[which], self.inode[which])

    def below(self, words: Words, blocks: int) -> "Nodes":
        """The children of these nodes, whose content is `words`."""
        row, block = extents.children(words, blocks)
        return Nodes(block, self.depth[row] - 1, self.dirty[row], self.inode[row])


@dataclass(frozen=True, slots=True)
class Seen:
    """Some nodes that were looked at."""

    nodes: Nodes
    """`dirty` now says so for these, too."""
    valid: Mask
    leaves: Leaves
    """The extents of the dirty ones."""


def walk(
    reading: Reading,
    shape: Shape,
    volume: Readable,
    slot: Readable | None,
    nodes: Nodes,
    known: Numbers,
) -> Iterator[Seen]:
    """Look at `nodes` and all nodes below them, but for blocks that are `known` (sorted).

    Without a slot, everything is dirty. Raises ReadFailed.
    """  # fmt: skip
    base = shape.base
    chunk = max(1, _CHUNK // base.block)
    stack = [nodes]
    while stack:
        top = stack.pop()
        if len(known):
            at = np.minimum(np.searchsorted(known, top.block), len(known) - 1)
            top = top.take(known[at] != top.block)
        if len(top) > chunk:
            stack.append(top.take(slice(chunk, None)))
            top = top.take(slice(chunk))
        if len(top) == 0:
            continue
        now = top.take(np.argsort(top.block, kind="stable"))
        words = reading.words(volume, now.block, base.block)
        if slot is None:
            now = Nodes(now.block, now.depth, np.ones(len(now), dtype=bool), now.inode)
        else:
            clean = np.flatnonzero(~now.dirty)
            theirs = reading.words(slot, now.block[clean], base.block)
            now.dirty[clean] = (words[clean] != theirs).any(axis=1)
        valid = (extents.depths(words) == now.depth) & (now.depth >= 0)
        inner = valid & (now.depth > 0)
        outer = np.flatnonzero(valid & (now.depth == 0) & now.dirty)
        yield Seen(now, valid, extents.leaves(words[outer], base.blocks))
        stack.append(now.take(inner).below(words[inner], base.blocks))
