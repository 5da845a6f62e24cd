# SPDX-License-Identifier: GPL-3.0-or-later
"""What is saved is known exactly; what is remembered of it is bounded."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.copying import saved
from builder.copying.saved import Saved
from builder.vault.replay import Spans
from core.model.blockset import EMPTY, BlockSet

SIZE = 1 << 20
PAIR = st.tuples(st.integers(0, SIZE // 512 - 1), st.integers(1, 64)).map(
    lambda pair: (pair[0] * 512, min((pair[0] + pair[1]) * 512, SIZE))
)


@given(st.lists(st.lists(PAIR, max_size=6).map(BlockSet.of), max_size=8), st.sampled_from([2, 99]))
def test_everything_is_saved_once_before_it_is_overwritten(
    batches: list[BlockSet], limit: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(saved, "LIMIT", limit)
        known = Saved(SIZE)
        done = EMPTY
        for batch in batches:
            fresh = known.fresh(batch)
            assert not fresh.intersect(done)
            assert not batch.minus(done).minus(fresh)
            assert fresh.within(SIZE) == fresh
            if limit == 99:
                assert not fresh.minus(batch)
            known.add(fresh)
            done = done.union(fresh)


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saved, "LIMIT", 1000)
    dice = random.Random(1)
    size = 64 << 30
    known = Saved(size)
    for _ in range(300):
        batch = BlockSet.of(
            (at, at + 4096) for at in (dice.randrange(0, size, 4096) for _ in range(200))
        )
        known.add(known.fresh(batch))
    assert len(known) < 12_000  # of 60,000


@given(st.lists(PAIR, max_size=6), PAIR)
def test_spans_cut_as_sets_do(ranges: list[tuple[int, int]], pair: tuple[int, int]) -> None:
    pieces = list(Spans(ranges).cut(*pair))
    whole = BlockSet.of([pair])
    for inside, wanted in (
        (True, whole.intersect(BlockSet.of(ranges))),
        (False, whole.minus(BlockSet.of(ranges))),
    ):
        assert (
            BlockSet.of((start, end) for start, end, where in pieces if where == inside) == wanted
        )
    assert sum(end - start for start, end, _inside in pieces) == whole.total
