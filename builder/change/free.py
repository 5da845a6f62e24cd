# SPDX-License-Identifier: GPL-3.0-or-later
"""Free extents of a file system, as many as fit: small ones count as used when there are more.

To take free space for used is always right: it is copied for nothing. Pure.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from core.model.blockset import EMPTY, BlockSet

Numbers = npt.NDArray[np.int64]

MOST: Final = 150_000
"""Extents that are kept."""
_FIRST: Final = 4096


class Free:
    """Gathers the free extents of one file system, again and again.

    The smallest length of an extent that is kept grows until they fit. It never shrinks, so that
    the next map is not another one just because there is one extent less.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._kept = EMPTY
        self._pending: list[Numbers] = []
        self._count = 0
        self.shortest = 0
        """Bytes; shorter extents count as used."""

    def begin(self) -> None:
        """Forget the extents, and keep what was learned of their lengths."""
        self._kept, self._pending, self._count = EMPTY, [], 0

    def add(self, starts: Numbers, ends: Numbers) -> None:
        """Add some extents, in any order."""
        # As a copy: the caller uses its arrays again.
        self._pending.append(np.column_stack((starts, ends)).astype(np.int64))
        self._count += len(starts)
        if 4 * self._count >= self._most:
            self._merge()

    def used(self, size: int) -> BlockSet:
        """What is not free in a file system of `size` bytes; the extents are forgotten."""
        self._merge()
        free = self._kept
        self.begin()
        return BlockSet.of([(0, size)]).minus(free)

    def _merge(self) -> None:
        joined = BlockSet.of(np.concatenate([self._kept.ranges, *self._pending]))
        self._pending, self._count = [], 0
        kept = _at_least(joined, self.shortest)
        while len(kept) > self._most:
            self.shortest = max(_FIRST, self.shortest + self.shortest // 4)
            kept = _at_least(kept, self.shortest)
        self._kept = kept


def _at_least(blocks: BlockSet, length: int) -> BlockSet:
    """The ranges that are not shorter."""
    return BlockSet(blocks.ranges[blocks.ranges[:, 1] - blocks.ranges[:, 0] >= length])
