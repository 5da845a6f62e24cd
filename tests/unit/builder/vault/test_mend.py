# SPDX-License-Identifier: GPL-3.0-or-later
"""The checksum of a superblock; what mends with it stands in tests/device/vault."""

from builder.vault.mend import crc32c, is_whole
from tests.support.data import DATA

WHOLE = (DATA / "ext4/superblock.bin").read_bytes()


def test_the_checksum_is_that_of_the_standard() -> None:
    assert crc32c(b"123456789") ^ 0xFFFFFFFF == 0xE3069283


def test_a_superblock_of_a_kernel_is_whole() -> None:
    assert is_whole(WHOLE)


def test_one_bit_is_seen_in_either_sector() -> None:
    for at in (4, 0x38, 0x1FF, 0x200, 0x3FF):
        torn = bytearray(WHOLE)
        torn[at] ^= 0x10
        assert not is_whole(bytes(torn)), at
    assert not is_whole(WHOLE[:1000])
    assert not is_whole(bytes(1024))
