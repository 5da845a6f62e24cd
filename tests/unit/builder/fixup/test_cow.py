# SPDX-License-Identifier: GPL-3.0-or-later
"""The store of a dm-snapshot is read as the kernel writes it."""

import struct

import pytest

from builder.fixup.cow import changed
from core.errors import FixupFailed

CHUNK = 4096
PER_AREA = 256


def _store(exceptions: list[tuple[int, int]], *, valid: int = 1, magic: bytes = b"SnAp") -> bytes:
    areas = len(exceptions) // PER_AREA + 1
    data = bytearray(CHUNK * (1 + areas * (PER_AREA + 1)))
    struct.pack_into("<4s3I", data, 0, magic, valid, 1, CHUNK // 512)
    for number, exception in enumerate(exceptions):
        area, at = divmod(number, PER_AREA)
        struct.pack_into("<QQ", data, CHUNK * (1 + area * (PER_AREA + 1)) + 16 * at, *exception)
    return bytes(data)


def _changed(store: bytes) -> list[tuple[int, int, int]]:
    return list(changed(lambda offset, length: store[offset : offset + length], len(store)))


def test_an_empty_one() -> None:
    assert _changed(_store([])) == []


def test_chunks_in_the_order_of_the_store() -> None:
    assert _changed(_store([(7, 2), (0, 3)])) == [
        (7 * CHUNK, 2 * CHUNK, CHUNK),
        (0, 3 * CHUNK, CHUNK),
    ]


@pytest.mark.parametrize("count", [255, 256, 257, 600])
def test_more_than_one_area(count: int) -> None:
    # The kernel counts new chunks up and leaves out those of the areas themselves.
    new = (n for n in range(2, 10**6) if (n - 1) % (PER_AREA + 1))
    exceptions = [(1000 + n, next(new)) for n in range(count)]
    assert [old // CHUNK for old, _, _ in _changed(_store(exceptions))] == [
        old for old, _ in exceptions
    ]


@pytest.mark.parametrize(
    "store",
    [_store([], valid=0), _store([], magic=b"SnaP"), _store([(1, 10**9)]), bytes(CHUNK)],
)
def test_one_that_ran_full_or_is_damaged(store: bytes) -> None:
    with pytest.raises(FixupFailed):
        _changed(store)
