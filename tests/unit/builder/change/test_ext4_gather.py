# SPDX-License-Identifier: GPL-3.0-or-later
"""Large sets of ranges in little memory, against plain Python sets of bytes."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from builder.change.ext4.gather import Gatherer, touched, window, without
from core.model.blockset import EMPTY, BlockSet

Pairs = list[tuple[int, int]]
pairs = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 9)).map(lambda p: (p[0], p[0] + p[1])), max_size=9
)


def points(blocks: BlockSet) -> set[int]:
    return {at for start, end in blocks for at in range(start, end)}


@given(pairs, st.integers(0, 70), st.integers(0, 70))
def test_a_window_is_an_intersection(some: Pairs, start: int, end: int) -> None:
    blocks = BlockSet.of(some)
    inside = set(range(start, end))
    assert points(window(blocks, start, end)) == points(blocks) & inside
    assert points(blocks) == {at for a, b in some for at in range(a, b)}  # it is not changed


@given(pairs, pairs)
def test_touched_ranges_are_those_with_a_common_byte(one: Pairs, two: Pairs) -> None:
    a, b = BlockSet.of(one), BlockSet.of(two)
    expected = [pair for pair in a if points(BlockSet.of([pair])) & points(b)]
    assert list(touched(a, b)) == expected


@given(pairs, pairs)
def test_without_is_a_difference(one: Pairs, two: Pairs) -> None:
    a, b = BlockSet.of(one), BlockSet.of(two)
    assert without(a, b) == a.minus(b)


@given(st.lists(pairs, max_size=5))
def test_what_fits_is_exact(lots: list[Pairs]) -> None:
    gatherer = Gatherer(widen=True)
    for lot in lots:
        gatherer.add(*np.array(lot, dtype=np.int64).reshape(-1, 2).T)
    assert gatherer.result() == EMPTY.union(*(BlockSet.of(lot) for lot in lots))
    assert gatherer.grain == 1


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=200), st.integers(2, 9))
def test_what_does_not_fit_gets_wider_or_is_left_out(starts: list[int], most: int) -> None:
    exact = BlockSet.of([(start, start + 100) for start in starts])
    wide, narrow = Gatherer(widen=True, most=most), Gatherer(widen=False, most=most)
    for gatherer in (wide, narrow):
        gatherer.add_set(exact)
        assert len(gatherer.result()) <= most
    assert not exact.minus(wide.result())
    assert not narrow.result().minus(exact)
    assert wide.grain == 1 or len(exact) > most
