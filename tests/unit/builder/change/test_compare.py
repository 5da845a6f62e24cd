# SPDX-License-Identifier: GPL-3.0-or-later
"""Blocks that differ are found, all of them and no others."""

import pytest

from builder.change.compare import differing
from core.model.blockset import EMPTY


@pytest.mark.parametrize("length", [512, 4096, 8192 + 1024, 40960])
def test_equal_pieces(length: int) -> None:
    left = memoryview(bytes(range(256)) * (length // 256))
    assert differing(left, memoryview(bytes(left))) == EMPTY


@pytest.mark.parametrize("at", [0, 4095, 4096, 20_000, 40_959])
def test_one_byte(at: int) -> None:
    left, right = bytearray(40_960), bytearray(40_960)
    right[at] = 1
    first = at - at % 4096
    assert list(differing(memoryview(left), memoryview(right))) == [(first, first + 4096)]


def test_neighbours_are_one_range_and_the_end_may_be_short() -> None:
    left, right = bytearray(16_384 + 512), bytearray(16_384 + 512)
    for at in (0, 8192, 12_288, 16_384):
        right[at] = 1
    found = differing(memoryview(left), memoryview(right))
    assert list(found) == [(0, 4096), (8192, 16_896)]
