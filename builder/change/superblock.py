# SPDX-License-Identifier: GPL-3.0-or-later
"""The superblock of ext4, and where its backups are. Pure.

Source: the kernel's Documentation/filesystems/ext4/super.rst and group_descr.rst.
"""

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from core.errors import CannotCopyFileSystem

if TYPE_CHECKING:
    from core.model.blockset import BlockSet

AT: Final = 1024
"""Where the superblock begins."""
SIZE: Final = 1024

_MAGIC: Final = 0xEF53
_COMPAT_SPARSE_SUPER2: Final = 0x200
_INCOMPAT_JOURNAL_DEV: Final = 0x8
_INCOMPAT_64BIT: Final = 0x80
_RO_COMPAT_SPARSE_SUPER: Final = 0x1


@dataclass(frozen=True, slots=True)
class Superblock:
    """What an ext2, ext3 or ext4 superblock says about the shape of its file system."""

    block: int
    """Size of a block in bytes."""
    blocks: int
    first_block: int
    """Number of the block where group 0 begins: 1 when blocks are of 1 KiB, else 0."""
    blocks_per_group: int
    inodes: int
    inodes_per_group: int
    inode_size: int
    compat: int
    incompat: int
    ro_compat: int
    uuid: bytes
    backup_groups: tuple[int, int]
    """With sparse_super2: the groups that have a backup (0: none)."""
    mounts: int = 0
    """How often it was mounted, or became writable again, modulo 65,536 (s_mnt_count)."""

    @property
    def size(self) -> int:
        """Bytes from the beginning of the device to the end of the file system."""
        return self.blocks * self.block

    @property
    def groups(self) -> int:
        """How many block groups there are."""
        return -(-(self.blocks - self.first_block) // self.blocks_per_group)


def parse(data: bytes, where: str) -> Superblock:
    """Parse a superblock (1,024 bytes, from offset 1,024 of `where`).

    Raises CannotCopyFileSystem when it is none.
    """
    (magic,) = struct.unpack_from("<H", data, 0x38)
    if magic != _MAGIC:
        raise CannotCopyFileSystem(f"There is no ext4 file system on {where}.")
    inodes, blocks_low = struct.unpack_from("<2I", data, 0)
    first_block, log_block = struct.unpack_from("<2I", data, 0x14)
    (blocks_per_group,) = struct.unpack_from("<I", data, 0x20)
    (inodes_per_group,) = struct.unpack_from("<I", data, 0x28)
    (revision,) = struct.unpack_from("<I", data, 0x4C)
    inode_size, _group, compat, incompat, ro_compat = struct.unpack_from("<2H3I", data, 0x58)
    (blocks_high,) = struct.unpack_from("<I", data, 0x150)
    if revision == 0:  # older than features
        inode_size, compat, incompat, ro_compat = 128, 0, 0, 0
    if incompat & _INCOMPAT_JOURNAL_DEV or log_block > 6 or blocks_per_group == 0:
        raise CannotCopyFileSystem(f"There is no ext4 file system on {where}.")
    first, second = struct.unpack_from("<2I", data, 0x24C)
    return Superblock(
        block=1024 << log_block,
        blocks=blocks_low | (blocks_high << 32 if incompat & _INCOMPAT_64BIT else 0),
        first_block=first_block,
        blocks_per_group=blocks_per_group,
        inodes=inodes,
        inodes_per_group=inodes_per_group,
        inode_size=inode_size,
        compat=compat,
        incompat=incompat,
        ro_compat=ro_compat,
        uuid=data[0x68:0x78],
        backup_groups=(first, second),
        mounts=struct.unpack_from("<H", data, 0x34)[0],
    )


def identity_blocks(shape: Superblock) -> "BlockSet":
    """The blocks that hold the superblock and its backups: by them the file system is found."""
    from core.model.blockset import BlockSet  # late: the rescue system has no numpy

    groups = [group for group in _with_backup(shape) if group < shape.groups]
    firsts = [shape.first_block + group * shape.blocks_per_group for group in groups]
    return BlockSet.of((first * shape.block, (first + 1) * shape.block) for first in firsts)


def _with_backup(shape: Superblock) -> list[int]:
    """Numbers of the groups that begin with a superblock; some may lie past the end."""
    if shape.compat & _COMPAT_SPARSE_SUPER2:
        return [0, *(group for group in shape.backup_groups if group)]
    if not shape.ro_compat & _RO_COMPAT_SPARSE_SUPER:
        return list(range(shape.groups))
    return [0, 1, *(base**power for base in (3, 5, 7) for power in range(1, 33))]
