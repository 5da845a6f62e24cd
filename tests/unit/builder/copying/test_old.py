# SPDX-License-Identifier: GPL-3.0-or-later
"""How old content is read for the undo log: near ranges at once, and never more than fits."""

from hypothesis import given
from hypothesis import strategies as st

from builder.copying.old import _parts
from builder.vault.undoformat import LONGEST
from core.model.blockset import BlockSet

SECTOR = 512
PAIRS = st.lists(
    st.tuples(st.integers(0, 20_000), st.integers(1, 3000)).map(
        lambda pair: (pair[0] * SECTOR, (pair[0] + pair[1]) * SECTOR)
    ),
    max_size=60,
)


@given(PAIRS)
def test_all_that_is_wanted_is_read_some_at_a_time(pairs: list[tuple[int, int]]) -> None:
    ranges = BlockSet.of(pairs)
    wanted = []
    for runs in _parts(ranges):
        assert sum(run.length for run in runs) <= LONGEST
        for run in runs:
            assert run.wanted[0][0] == run.start
            assert run.wanted[-1][1] == run.start + run.length
            wanted += run.wanted
    assert wanted == list(ranges.pieces(LONGEST))


def test_what_lies_near_is_read_at_once() -> None:
    ranges = BlockSet.of([(0, 4096), (16384, 20480), (1 << 20, (1 << 20) + 4096)])
    (runs,) = _parts(ranges)
    assert [(run.start, run.length) for run in runs] == [(0, 20480), (1 << 20, 4096)]
