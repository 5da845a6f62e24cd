# SPDX-License-Identifier: GPL-3.0-or-later
"""Which ranges of a slot are in the undo log already; pure. Bounded by getting coarser."""

from typing import Final

from core.model.blockset import EMPTY, BlockSet

LIMIT: Final = 1 << 18
"""Ranges that may be remembered before the next coarser grain is taken: 4 MiB of memory."""
_COARSER: Final = 4


class Saved:
    """The ranges of one slot of `size` bytes that were saved."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._room = LIMIT
        self._grain = 1
        self._saved = EMPTY

    def fresh(self, ranges: BlockSet) -> BlockSet:
        """What has to be saved before `ranges` are overwritten: often just that, at times more."""
        if self._grain > 1:
            ranges = ranges.aligned(self._grain).within(self._size)
        return ranges.minus(self._saved)

    def add(self, ranges: BlockSet) -> None:
        """`ranges` are in the log, on the disk."""
        self._saved = self._saved.union(ranges)
        if len(self._saved) > self._room:
            # The ranges stay as fine as they were saved; those to come are joined to them.
            self._room += LIMIT
            self._grain = max(self._grain * _COARSER, 16 << 10)

    def __len__(self) -> int:
        return len(self._saved)
