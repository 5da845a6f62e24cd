# SPDX-License-Identifier: GPL-3.0-or-later
"""Group descriptors and bitmaps, read from a file system in memory."""

import random
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from builder.change.detector import UseCompare
from builder.change.ext4 import features, groups
from builder.change.ext4.features import Shape
from builder.change.ext4.groups import BLOCK_UNINIT, INODE_UNINIT, INODE_ZEROED, Groups
from builder.change.ext4.reading import Reading
from core.model.blockset import BlockSet

SAMPLE = (Path(__file__).parents[3] / "data/ext4/superblock.bin").read_bytes()
SHAPE = features.understand(SAMPLE)
BLOCK = 4096


class Memory:
    """A device of which only some blocks are there; the others are zero."""

    def __init__(self) -> None:
        self.blocks: dict[int, bytes] = {}

    def read_into(self, offset: int, view: memoryview) -> None:
        for at in range(0, len(view), BLOCK):
            view[at : at + BLOCK] = self.blocks.get((offset + at) // BLOCK, bytes(BLOCK))


def descriptors(flags: int = 0, unused: int = 0, table: int = 1000) -> Memory:
    """Descriptors of 96 groups, all places beyond 32 bits but for the given table."""
    rows = bytearray()
    for group in range(SHAPE.base.groups):
        row = bytearray(64)
        struct.pack_into("<3I", row, 0, 200 + group, 400 + group, table + 512 * group)
        struct.pack_into("<H", row, 0x12, flags)
        struct.pack_into("<H", row, 0x1C, unused)
        rows += row
    memory = Memory()
    for number in range(SHAPE.desc_blocks):
        memory.blocks[1 + number] = bytes(rows[number * BLOCK : (number + 1) * BLOCK]).ljust(BLOCK)
    return memory


def test_descriptors() -> None:
    found = groups.read_groups(Reading(), descriptors(INODE_ZEROED, 192), SHAPE)
    assert found.block_bitmap.tolist() == list(range(200, 296))
    assert found.inode_bitmap.tolist() == list(range(400, 496))
    assert found.table.tolist() == [1000 + 512 * group for group in range(96)]
    assert set(found.inodes_used.tolist()) == {8192 - 192}


def test_places_have_more_than_32_bits() -> None:
    memory = descriptors()
    row = bytearray(memory.blocks[1])
    struct.pack_into("<I", row, 0x20, 3)
    memory.blocks[1] = bytes(row)
    base = replace(SHAPE.base, blocks=1 << 40)
    # The number of groups stays: only the places are looked at here.
    shape = replace(SHAPE, base=replace(base, blocks_per_group=(1 << 40) // 96 + 1))
    found = groups.read_groups(Reading(), memory, shape)
    assert int(found.block_bitmap[0]) == 3 << 32 | 200


def test_a_group_without_a_table_has_no_inodes() -> None:
    found = groups.read_groups(Reading(), descriptors(INODE_UNINIT), SHAPE)
    assert set(found.inodes_used.tolist()) == {0}


def test_without_checksums_flags_and_counts_mean_nothing() -> None:
    base = replace(SHAPE.base, ro_compat=SHAPE.base.ro_compat & ~0x410)
    found = groups.read_groups(Reading(), descriptors(INODE_UNINIT, 100), replace(SHAPE, base=base))
    assert set(found.inodes_used.tolist()) == {8192}
    assert set(found.flags.tolist()) == {0}


@pytest.mark.parametrize("memory", [descriptors(unused=8193), descriptors(table=1 << 31)])
def test_descriptors_that_make_no_sense(memory: Memory) -> None:
    with pytest.raises(UseCompare, match="make no sense"):
        groups.read_groups(Reading(), memory, SHAPE)


def table_bytes(shape: Shape, table: int) -> tuple[int, int]:
    return table * BLOCK, (table + shape.table_blocks) * BLOCK


def some_groups(flags: dict[int, int]) -> Groups:
    plain = groups.read_groups(Reading(), descriptors(INODE_ZEROED), SHAPE)
    changed = plain.flags.copy()
    for group, value in flags.items():
        changed[group] = value
    return replace(plain, flags=changed)


def test_tables_with_other_flags_or_not_zeroed_are_compared_whole() -> None:
    ours = some_groups({3: 0, 9: INODE_ZEROED | INODE_UNINIT})
    theirs = some_groups({3: 0, 20: 0})
    expected = [table_bytes(SHAPE, 1000 + 512 * group) for group in (3, 9, 20)]
    assert groups.whole_tables(SHAPE, ours, theirs) == BlockSet.of(expected)
    assert not groups.whole_tables(SHAPE, some_groups({}), some_groups({}))


@pytest.mark.parametrize("seed", range(4))
def test_used_blocks_are_the_bits_of_the_bitmaps(seed: int) -> None:
    rng = random.Random(seed)
    memory, expected = Memory(), set()
    found = some_groups({5: INODE_ZEROED | BLOCK_UNINIT})
    for group in (0, 4, 5, 6, 63, 64, 95):
        bits = np.zeros(32768, dtype=np.uint8)
        for _ in range(rng.randrange(4)):
            start = rng.randrange(32768)
            bits[start : start + rng.randrange(40000)] = 1
        bits[:: rng.choice((3000, 32768))] = rng.randrange(2)
        bits[-1] = rng.randrange(2)
        memory.blocks[200 + group] = np.packbits(bits, bitorder="little").tobytes()
        if group != 5:
            expected |= {group * 32768 + int(bit) for bit in np.flatnonzero(bits)}
    seen: set[int] = set()
    end = 0
    for first, last, blocks in groups.used_blocks(Reading(), memory, SHAPE, found):
        assert first == end
        end = last
        for a, b in blocks:
            assert first <= a < b <= last
            seen.update(range(a // BLOCK, b // BLOCK))
    assert end == SHAPE.base.size
    assert seen == expected
