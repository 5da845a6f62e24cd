# SPDX-License-Identifier: GPL-3.0-or-later
"""How old content is read for the undo log: near ranges at once, and never more than fits."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from builder.copying.undo import _lots
from builder.vault.undoformat import LONGEST
from core.model.blockset import BlockSet

SECTOR = 512
ROOM = 2 * LONGEST
PAIRS = st.lists(
    st.tuples(st.integers(0, 20_000), st.integers(1, 3000)).map(
        lambda pair: (pair[0] * SECTOR, (pair[0] + pair[1]) * SECTOR)
    ),
    max_size=60,
)


@given(PAIRS)
def test_all_that_is_wanted_is_read_into_its_own_place(pairs: list[tuple[int, int]]) -> None:
    ranges = BlockSet.of(pairs)
    wanted = []
    for runs in _lots(ranges, ROOM):
        places = sorted((run.place, run.place + run.length) for run in runs)
        assert all(end <= later for (_, end), (later, _) in pairwise(places))
        assert places[-1][1] <= ROOM
        for run in runs:
            assert run.length <= LONGEST
            assert run.wanted[0][0] == run.start
            assert run.wanted[-1][1] == run.start + run.length
            wanted += run.wanted
    assert wanted == list(ranges.pieces(LONGEST))


def test_what_lies_near_is_read_at_once() -> None:
    ranges = BlockSet.of([(0, 4096), (16384, 20480), (1 << 20, (1 << 20) + 4096)])
    (runs,) = _lots(ranges, ROOM)
    assert [(run.start, run.length) for run in runs] == [(0, 20480), (1 << 20, 4096)]
