# SPDX-License-Identifier: GPL-3.0-or-later
"""Which blocks of two pieces of the same length differ. Pure."""

from typing import Final

import numpy as np

from core.model.blockset import EMPTY, BlockSet

GRAIN: Final = 4096


def differing(left: memoryview, right: memoryview) -> BlockSet:
    """The 4 KiB blocks in which two pieces differ, in bytes from their beginning.

    Both begin at a multiple of 4 KiB of their device, so that blocks are blocks. A shorter block
    at the end is compared, too.
    """
    ours, theirs = np.frombuffer(left, np.uint8), np.frombuffer(right, np.uint8)
    if np.array_equal(ours, theirs):
        return EMPTY
    whole = len(ours) - len(ours) % GRAIN
    words = [piece[:whole].view(np.uint64).reshape(-1, GRAIN // 8) for piece in (ours, theirs)]
    starts = np.flatnonzero((words[0] != words[1]).any(axis=1)) * GRAIN
    pairs = np.column_stack((starts, starts + GRAIN)).astype(np.int64)
    if not np.array_equal(ours[whole:], theirs[whole:]):
        pairs = np.concatenate((pairs, [[whole, len(ours)]]))
    return BlockSet.of(pairs)
