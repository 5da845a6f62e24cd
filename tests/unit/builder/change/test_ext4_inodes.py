# SPDX-License-Identifier: GPL-3.0-or-later
"""Which difference between two inodes means that data may differ."""

import numpy as np
import pytest

from builder.change.ext4.inodes import blind, meaningful

WORDS = 64
"""Of an inode of 256 bytes."""
ATIME, CTIME, MTIME, CHECKSUM, EXTRA = 0x8, 0xC, 0x10, 0x7C, 0x80
CTIME_EXTRA, MTIME_EXTRA, ATIME_EXTRA = 0x84, 0x88, 0x8C


def inode(**fields: int) -> np.ndarray[tuple[int, int], np.dtype[np.uint32]]:
    """One row; a field is called `at_` and its byte's number in hex."""
    row = np.zeros((1, WORDS), dtype="<u4")
    row[0, EXTRA // 4] = 32
    for name, value in fields.items():
        row[0, int(name.removeprefix("at_"), 16) // 4] = value
    return row


@pytest.mark.parametrize("at", [CTIME, MTIME, CTIME_EXTRA, MTIME_EXTRA, 0x4, 0x1C, 0x28, 0x3C])
def test_it_means_something_to_the_nanosecond(at: int) -> None:
    nanosecond = 1 << 2  # behind the two bits of the epoch
    assert meaningful(inode(), inode(**{f"at_{at:x}": nanosecond})).tolist() == [True]


@pytest.mark.parametrize("at", [ATIME, ATIME_EXTRA, CHECKSUM])
def test_reading_means_nothing(at: int) -> None:
    assert meaningful(inode(), inode(**{f"at_{at:x}": 4})).tolist() == [False]


@pytest.mark.parametrize(("extra", "trusted"), [(0, True), (4, False), (8, False), (12, True)])
def test_without_nanoseconds_no_stamp_is_trusted(extra: int, *, trusted: bool) -> None:
    row = inode()
    row[0, EXTRA // 4] = extra
    assert blind(row).tolist() == [not trusted]
