# SPDX-License-Identifier: GPL-3.0-or-later
"""A used map that fits into memory: never smaller than the true one, exact as long as it fits."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from builder.change.free import Free
from core.model.blockset import EMPTY, BlockSet

BLOCK = 4096


def extents(lengths: list[int]) -> tuple[BlockSet, int]:
    """Free extents of some blocks each, one used block before each, and where they end."""
    ends = np.cumsum(np.array(lengths, dtype=np.int64) + 1) * BLOCK
    starts = ends - np.array(lengths, dtype=np.int64) * BLOCK
    return BlockSet.of(np.column_stack((starts, ends))), int(ends[-1]) + BLOCK if lengths else BLOCK


def used(free: Free, given_: BlockSet, size: int, page: int) -> BlockSet:
    free.begin()
    for at in range(0, len(given_), page):
        part = given_.ranges[at : at + page]
        free.add(part[:, 0].astype(np.uint64), part[:, 1].astype(np.uint64))
    return free.used(size)


lengths = st.lists(st.integers(1, 50), max_size=60)


@given(lengths, st.integers(1, 20), st.integers(1, 9))
def test_it_is_never_too_small_and_has_few_ranges(some: list[int], most: int, page: int) -> None:
    holes, size = extents(some)
    truth = BlockSet.of([(0, size)]).minus(holes)
    free = Free(most)
    found = used(free, holes, size, page)
    assert truth.minus(found) == EMPTY
    assert found.within(size) == found
    assert len(found) <= most + 1
    if len(some) < most:
        assert found == truth
        assert free.shortest == 0
    # What is left out is short, and not much of it but what cannot be told from the rest.
    for start, end in found.minus(truth):
        assert BlockSet.of([(start, end)]).intersect(holes).total < len(some) * free.shortest
    kept = BlockSet.of([(0, size)]).minus(found)
    assert all(end - start >= free.shortest for start, end in kept)
    assert kept.minus(holes) == EMPTY


@given(lengths, st.integers(1, 9), st.integers(1, 5))
def test_the_next_map_differs_by_what_changed_alone(some: list[int], most: int, page: int) -> None:
    holes, size = extents(some)
    free = Free(most)
    first = used(free, holes, size, page)
    shortest = free.shortest
    gone = BlockSet(holes.ranges[1::2])
    left = holes.minus(gone)
    second = used(free, left, size, page)
    assert free.shortest == shortest
    assert second == first.union(gone)


def test_many_of_them() -> None:
    chance = np.random.default_rng(1)
    holes, size = extents(chance.geometric(0.05, 400_000).tolist())
    free = Free(50_000)
    found = used(free, holes, size, 8192)
    kept = BlockSet.of([(0, size)]).minus(found)
    assert 30_000 < len(kept) <= 50_000
    longest = np.sort(holes.ranges[:, 1] - holes.ranges[:, 0])[-50_000:]
    assert kept.total > 0.8 * longest.sum()
