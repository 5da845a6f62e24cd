# SPDX-License-Identifier: GPL-3.0-or-later
"""Which ext4 file systems are understood, from a superblock that Debian's mke2fs has made."""

import struct
from pathlib import Path

import pytest

from builder.change.detector import UseCompare
from builder.change.ext4 import features
from core.model.blockset import BlockSet

SAMPLE = (Path(__file__).parents[3] / "data/ext4/superblock.bin").read_bytes()
COMPAT, INCOMPAT, RO_COMPAT = 0x5C, 0x60, 0x64


def changed(at: int, kind: str, value: int) -> bytes:
    data = bytearray(SAMPLE)
    struct.pack_into(f"<{kind}", data, at, value)
    return bytes(data)


def flipped(at: int, bits: int) -> bytes:
    return changed(at, "I", struct.unpack_from("<I", SAMPLE, at)[0] ^ bits)


def test_the_sample_is_understood() -> None:
    shape = features.understand(SAMPLE)
    assert shape.base.size == 12 << 30
    assert shape.base.groups == 96
    assert (shape.desc_size, shape.desc_blocks) == (64, 2)
    assert (shape.journal, shape.orphans, shape.quotas) == (8, 12, (0, 0, 0))
    assert (shape.reserved, shape.checksummed) == (1024, True)
    assert shape.table_blocks == 512


def test_the_heads_of_groups() -> None:
    shape = features.understand(SAMPLE)
    starts = [group * 32768 * 4096 for group in (0, 1, 3, 5, 7, 9, 25, 27, 49, 81)]
    for length, areas in ((3, shape.heads()), (3 + 1024, shape.whole_heads())):
        assert areas == BlockSet.of([(start, start + length * 4096) for start in starts])


@pytest.mark.parametrize("place", [COMPAT, INCOMPAT, RO_COMPAT])
def test_a_feature_of_the_future_is_not_understood(place: int) -> None:
    with pytest.raises(UseCompare, match="0x80000000"):
        features.understand(flipped(place, 0x80000000))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (flipped(INCOMPAT, 0x10), "meta_bg"),
        (flipped(RO_COMPAT, 0x200), "bigalloc"),
        (flipped(INCOMPAT, 0x8000), "inline_data"),
        (flipped(INCOMPAT, 0x400), "ea_inode"),
        (flipped(INCOMPAT, 0x40), "block-mapped"),
        (changed(0x58, "H", 128), "128 bytes"),
        (changed(0xE4, "I", 0x801), "another device"),
        (changed(0xE0, "I", 0), "another device"),
        (changed(0x38, "H", 0), "no ext4"),
        (changed(0x3A, "H", 3), "e2fsck"),
        (changed(0x28, "I", 8191), "contradicts"),
        (changed(0x0, "I", 5), "contradicts"),
        (changed(0xFE, "H", 48), "contradicts"),
    ],
)
def test_refusals(data: bytes, reason: str) -> None:
    with pytest.raises(UseCompare, match=reason):
        features.understand(data)


@pytest.mark.parametrize(
    "data",
    [
        SAMPLE,
        flipped(INCOMPAT, 0x4),  # mounted
        flipped(INCOMPAT, 0x2000),  # a fix-up
        flipped(RO_COMPAT, 0x2),  # the first large file
        flipped(RO_COMPAT, 0x10000),  # a file deleted while open
        changed(0x68, "Q", 1),  # another UUID
        changed(0x34, "H", 77),  # mounted more often
    ],
)
def test_what_a_backup_of_a_mounted_volume_looks_like(data: bytes) -> None:
    features.one_origin(features.understand(SAMPLE), features.understand(data))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (changed(0x40, "I", 1), "e2fsck"),
        (changed(0x277, "B", 1), "e2fsck"),
        (changed(0xEC, "I", 1), "another file system"),
        (changed(0x108, "I", 1), "another file system"),
        (flipped(COMPAT, 0x20), "features changed"),
        (flipped(RO_COMPAT, 0x400), "features changed"),
        (changed(0xCE, "H", 1), "shape changed"),
        (changed(0xE0, "I", 9), "shape changed"),
    ],
)
def test_slots_that_do_not_belong(data: bytes, reason: str) -> None:
    with pytest.raises(UseCompare, match=reason):
        features.one_origin(features.understand(SAMPLE), features.understand(data))
