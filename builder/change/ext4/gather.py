# SPDX-License-Identifier: GPL-3.0-or-later
"""Collects very many byte ranges in little memory: exact as long as they fit, then coarser."""

from typing import Final

import numpy as np
import numpy.typing as npt

from core.model.blockset import EMPTY, BlockSet

Numbers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

MOST: Final = 400_000
"""Ranges that are kept; making a set of twice as many takes about 60 MiB for a moment."""
_COARSEST: Final = 1 << 40


class Gatherer:
    """A union under way, of up to `most` ranges.

    When there are more, they get wider and fewer if `widen`, else the rest is left out.
    """

    def __init__(self, *, widen: bool, most: int = MOST) -> None:
        self._widen = widen
        self._most = most
        self._pending: list[Numbers] = []
        self._count = 0
        self._merged = EMPTY
        self.grain = 1
        """Bytes to whose multiples the ranges were widened."""

    def add(self, starts: Numbers, ends: Numbers) -> None:
        """Add the ranges `[starts[i], ends[i])`."""
        if len(starts) == 0:
            return
        self._pending.append(np.column_stack((starts, ends)))
        self._count += len(starts)
        if self._count >= self._most:
            self._merge()

    def add_set(self, blocks: BlockSet) -> None:
        """Add the ranges of a set."""
        for at in range(0, len(blocks), self._most):
            part = blocks.ranges[at : at + self._most]
            self.add(part[:, 0], part[:, 1])

    def result(self) -> BlockSet:
        """All that was added (see `grain`), without what was left out."""
        self._merge()
        return self._merged

    def _merge(self) -> None:
        if not self._pending:
            return
        joined = BlockSet.of(np.concatenate([self._merged.ranges, *self._pending]))
        self._pending.clear()
        self._count = 0
        if len(joined) > self._most and not self._widen:
            joined = BlockSet(joined.ranges[: self._most])
        while len(joined) > self._most and self.grain < _COARSEST:
            self.grain = max(4096, self.grain * 4)
            joined = joined.aligned(self.grain)
        self._merged = joined


def window(blocks: BlockSet, start: int, end: int) -> BlockSet:
    """The part of a set within `[start, end)`, without a look at the rest of it."""
    first = int(np.searchsorted(blocks.ranges[:, 1], start, side="right"))
    last = int(np.searchsorted(blocks.ranges[:, 0], end, side="left"))
    if first >= last:
        return EMPTY
    part = blocks.ranges[first:last].copy()
    part[0, 0] = max(part[0, 0], start)
    part[-1, 1] = min(part[-1, 1], end)
    return BlockSet(part)


def touched(blocks: BlockSet, by: BlockSet) -> BlockSet:
    """Those ranges of `blocks`, whole, that have a byte in common with `by`.

    Quick when `by` has few ranges, however many `blocks` has.
    """
    if not blocks or not by:
        return EMPTY
    first = np.searchsorted(blocks.ranges[:, 1], by.ranges[:, 0], side="right")
    last = np.searchsorted(blocks.ranges[:, 0], by.ranges[:, 1], side="left")
    counts = np.maximum(last - first, 0)
    within = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
    return BlockSet(blocks.ranges[np.unique(np.repeat(first, counts) + within)])


def without(few: BlockSet, many: BlockSet) -> BlockSet:
    """`few.minus(many)`, quick when `few` has few ranges, however many `many` has."""
    return few.minus(touched(many, few))
