# SPDX-License-Identifier: GPL-3.0-or-later
"""Where ext4 keeps its superblocks, by the rules that its documentation gives."""

import struct
from dataclasses import replace

import pytest

from builder.change.superblock import Superblock, identity_blocks, parse
from core.errors import CannotCopyFileSystem
from core.model.blockset import BlockSet

SPARSE = Superblock(
    block=4096, blocks=32768 * 30, first_block=0, blocks_per_group=32768, inodes=1, inode_size=256,
    inodes_per_group=1, compat=0, incompat=0, ro_compat=1, uuid=bytes(16), backup_groups=(0, 0),
)  # fmt: skip


def starts(blocks: BlockSet, shape: Superblock) -> list[int]:
    """Group numbers."""
    assert all(end - start == shape.block for start, end in blocks)
    return [
        (start // shape.block - shape.first_block) // shape.blocks_per_group for start, _ in blocks
    ]


def made(**fields: int) -> bytes:
    """A superblock of an ext4 with 1,000,000 blocks of 4 KiB."""
    data = bytearray(1024)
    struct.pack_into("<H", data, 0x38, fields.get("magic", 0xEF53))
    struct.pack_into("<2I", data, 0, 250_000, 1_000_000)
    struct.pack_into("<2I", data, 0x14, 0, fields.get("log_block", 2))
    struct.pack_into("<I", data, 0x20, 32768)
    struct.pack_into("<I", data, 0x28, 8064)
    struct.pack_into("<I", data, 0x4C, fields.get("revision", 1))
    struct.pack_into("<2H3I", data, 0x58, 256, 0, 0x38, fields.get("incompat", 0x2C2), 0x46B)
    data[0x68:0x78] = bytes(range(16))
    struct.pack_into("<I", data, 0x150, fields.get("high", 0))
    return bytes(data)


def test_fields() -> None:
    shape = parse(made(), "here")
    assert (shape.block, shape.blocks, shape.inode_size, shape.groups) == (4096, 1_000_000, 256, 31)
    assert shape.size == 4_096_000_000
    assert shape.uuid == bytes(range(16))


def test_the_high_half_of_the_size_counts_with_64bit_only() -> None:
    assert parse(made(high=1), "here").blocks == 1_000_000 + (1 << 32)
    assert parse(made(high=1, incompat=0x242), "here").blocks == 1_000_000


def test_what_an_old_revision_does_not_have() -> None:
    assert parse(made(revision=0), "here").inode_size == 128


@pytest.mark.parametrize("fields", [{"magic": 0}, {"incompat": 0x8}, {"log_block": 40}])
def test_what_is_no_ext4(fields: dict[str, int]) -> None:
    with pytest.raises(CannotCopyFileSystem, match="on /dev/sda2"):
        parse(made(**fields), "/dev/sda2")


def test_backups_in_groups_that_are_powers_of_3_5_7() -> None:
    assert starts(identity_blocks(SPARSE), SPARSE) == [0, 1, 3, 5, 7, 9, 25, 27]


def test_small_blocks_begin_after_the_boot_sector() -> None:
    shape = replace(SPARSE, block=1024, first_block=1, blocks_per_group=8192, blocks=8192 * 4)
    assert list(identity_blocks(shape)) == [
        (1024, 2048), (8193 << 10, 8194 << 10), (24577 << 10, 24578 << 10)
    ]  # fmt: skip


def test_without_sparse_super_every_group_has_one() -> None:
    shape = replace(SPARSE, ro_compat=0, blocks=32768 * 4 + 1)
    assert starts(identity_blocks(shape), shape) == [0, 1, 2, 3, 4]


def test_sparse_super2_names_its_backups() -> None:
    shape = replace(SPARSE, compat=0x200, backup_groups=(1, 29))
    assert starts(identity_blocks(shape), shape) == [0, 1, 29]
    shape = replace(shape, backup_groups=(0, 0))
    assert starts(identity_blocks(shape), shape) == [0]
