# SPDX-License-Identifier: GPL-3.0-or-later
"""A superblock that somebody wrote is told from one that is damaged."""

from pathlib import Path

import pytest

from builder.check.rot import crc32c, makes_sense

SUPERBLOCK = (Path(__file__).parents[3] / "data" / "ext4" / "superblock.bin").read_bytes()[:1024]


def test_the_checksum_is_that_of_the_kernel() -> None:
    """The check value of CRC-32C, inverted at the end as that has it."""
    assert crc32c(b"123456789") ^ 0xFFFFFFFF == 0xE3069283


def test_one_that_was_written() -> None:
    assert makes_sense(SUPERBLOCK)


@pytest.mark.parametrize("at", [0, 0x38, 0x64, 0x78, 500, 1023])
def test_one_that_is_damaged(at: int) -> None:
    changed = bytearray(SUPERBLOCK)
    changed[at] ^= 0x20
    assert not makes_sense(bytes(changed))
