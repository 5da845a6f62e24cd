# SPDX-License-Identifier: GPL-3.0-or-later
"""BlockSet against plain Python sets of bytes."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from core.model.blockset import EMPTY, BlockSet

pairs = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 9)).map(lambda p: (p[0], p[0] + p[1])), max_size=7
)


def points(blocks: BlockSet) -> set[int]:
    return {at for start, end in blocks for at in range(start, end)}


@given(pairs, pairs)
def test_set_operations_are_those_of_sets(
    one: list[tuple[int, int]], two: list[tuple[int, int]]
) -> None:
    a, b = BlockSet.of(one), BlockSet.of(two)
    left = {at for start, end in one for at in range(start, end)}
    right = {at for start, end in two for at in range(start, end)}
    assert points(a) == left
    assert a.total == len(left)
    assert points(a.union(b)) == left | right
    assert points(a.intersect(b)) == left & right
    assert points(a.minus(b)) == left - right


@given(pairs)
def test_ranges_are_sorted_disjoint_and_do_not_touch(one: list[tuple[int, int]]) -> None:
    found = list(BlockSet.of(one))
    assert all(start < end for start, end in found)
    assert all(before[1] < after[0] for before, after in itertools.pairwise(found))


@given(pairs, st.integers(1, 16))
def test_pieces_cover_the_set_and_never_cross_a_multiple(
    one: list[tuple[int, int]], most: int
) -> None:
    blocks = BlockSet.of(one)
    cut = list(blocks.pieces(most))
    assert {at for start, end in cut for at in range(start, end)} == points(blocks)
    assert all(start // most == (end - 1) // most for start, end in cut)


@given(pairs, st.integers(1, 16))
def test_aligned_widens_to_whole_grains(one: list[tuple[int, int]], grain: int) -> None:
    wide = points(BlockSet.of(one).aligned(grain))
    assert wide == {
        g * grain + i
        for g in {at // grain for at in points(BlockSet.of(one))}
        for i in range(grain)
    }


def test_the_empty_set_is_false() -> None:
    assert not EMPTY
    assert BlockSet.of([(3, 3)]) == EMPTY


@given(pairs, st.integers(1, 5))
def test_fewer_ranges_fill_the_smallest_gaps(one: list[tuple[int, int]], most: int) -> None:
    blocks = BlockSet.of(one)
    fewer = blocks.fewer(most)
    assert len(fewer) == min(len(blocks), most)
    assert points(blocks) <= points(fewer)
    gaps = sorted(after[0] - before[1] for before, after in itertools.pairwise(blocks))
    filled = sum(gaps[: max(len(blocks) - most, 0)])
    assert fewer.total == blocks.total + filled


def test_very_many_ranges_are_gone_through_in_order() -> None:
    expected = [(3 * number, 3 * number + 1) for number in range(10_000)]
    assert list(BlockSet.of(expected)) == expected
