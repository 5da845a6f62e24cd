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
    whole = len(left) - len(left) % GRAIN
    # Words, not bytes: an eighth of the work.
    ours, theirs = (
        np.frombuffer(piece, np.uint64, whole // 8).reshape(-1, GRAIN // 8)
        for piece in (left, right)
    )
    starts = np.flatnonzero((ours != theirs).any(axis=1)) * GRAIN
    pairs = np.column_stack((starts, starts + GRAIN)).astype(np.int64)
    if left[whole:] != right[whole:]:
        pairs = np.concatenate((pairs, [[whole, len(left)]]))
    return BlockSet.of(pairs) if len(pairs) else EMPTY
