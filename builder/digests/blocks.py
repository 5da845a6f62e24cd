# SPDX-License-Identifier: GPL-3.0-or-later
"""Digests of blocks: arrays of block numbers with one xxh3-64 each, a window of 1 GiB at a time."""

from collections.abc import Iterable
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import xxhash

from core.model.blockset import BlockSet

BLOCK: Final = 4096
"""Bytes that one digest stands for; the last block of a slot may be shorter."""
WINDOW: Final = 1 << 18
"""Blocks that are looked at together: 1 GiB of a slot, 2 MiB of digests."""

Numbers = npt.NDArray[np.int64]
Digests = npt.NDArray[np.uint64]


class Digested(NamedTuple):
    """Blocks in ascending order, each once, and their digests."""

    blocks: Numbers
    """Counted from the beginning of the slot."""
    digests: Digests

    def within(self, wanted: BlockSet) -> "Digested":
        """Those that lie in `wanted`, which counts in blocks."""
        if not wanted:
            return NOTHING
        at = np.searchsorted(wanted.ranges[:, 0], self.blocks, side="right") - 1
        inside = (at >= 0) & (self.blocks < wanted.ranges[at, 1])
        return self if inside.all() else Digested(self.blocks[inside], self.digests[inside])

    @property
    def ranges(self) -> BlockSet:
        """Where they are, counted in blocks."""
        if not len(self.blocks):
            return BlockSet.of([])
        cut = np.flatnonzero(np.diff(self.blocks) != 1)
        starts = self.blocks[np.append(0, cut + 1)]
        ends = self.blocks[np.append(cut, len(self.blocks) - 1)] + 1
        return BlockSet(np.column_stack((starts, ends)))


NOTHING: Final = Digested(np.empty(0, np.int64), np.empty(0, np.uint64))


def digest(block: memoryview | bytes) -> int:
    """xxh3-64, seed 0, of one block."""
    return int(xxhash.xxh3_64_intdigest(block))


def digests(view: memoryview) -> Digests:
    """Those of all blocks in `view`; the last one may be shorter."""
    one = xxhash.xxh3_64_intdigest
    count = -(-len(view) // BLOCK)
    starts = range(0, len(view), BLOCK)
    return np.fromiter((one(view[at : at + BLOCK]) for at in starts), np.uint64, count)


def newest(found: Iterable[Digested]) -> Digested:
    """All of them together; where several know a block, the first one counts."""
    parts = [each for each in found if len(each.blocks)]
    if len(parts) < 2:
        return parts[0] if parts else NOTHING
    blocks, first = np.unique(np.concatenate([each.blocks for each in parts]), return_index=True)
    return Digested(blocks, np.concatenate([each.digests for each in parts])[first])


def in_blocks(ranges: BlockSet) -> BlockSet:
    """Byte ranges as ranges of the blocks that they touch."""
    return BlockSet(ranges.aligned(BLOCK).ranges // BLOCK)


def windows(ranges: BlockSet) -> set[int]:
    """Numbers of the windows that ranges of blocks touch."""
    found: set[int] = set()
    for first, end in zip(
        (ranges.ranges[:, 0] // WINDOW).tolist(), (-(-ranges.ranges[:, 1] // WINDOW)).tolist(),
        strict=True,
    ):  # fmt: skip
        found.update(range(first, end))
    return found


def window(ranges: BlockSet, number: int) -> BlockSet:
    """What of `ranges`, counted in blocks, lies in one window."""
    return BlockSet.of([(number * WINDOW, (number + 1) * WINDOW)]).intersect(ranges)
