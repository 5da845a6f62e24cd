# SPDX-License-Identifier: GPL-3.0-or-later
"""Which ext4 file systems the detector understands, and what it has to know of one.

A whitelist: a feature that is not named here may keep data or metadata where nobody looks.
Source: the kernel's Documentation/filesystems/ext4/super.rst.
"""

import struct
from dataclasses import dataclass
from typing import Final

from builder.change import superblock
from builder.change.detector import UseCompare
from builder.change.superblock import Superblock
from core.errors import CannotCopyFileSystem
from core.model.blockset import BlockSet

_COMPAT: Final = {
    0x1: "dir_prealloc", 0x4: "has_journal", 0x8: "ext_attr", 0x10: "resize_inode",
    0x20: "dir_index", 0x200: "sparse_super2", 0x400: "fast_commit", 0x800: "stable_inodes",
    0x1000: "orphan_file",
}  # fmt: skip
_INCOMPAT: Final = {
    0x2: "filetype", 0x4: "needs_recovery", 0x40: "extent", 0x80: "64bit", 0x200: "flex_bg",
    0x2000: "metadata_csum_seed", 0x4000: "large_dir", 0x10000: "encrypt",
}  # fmt: skip
_RO_COMPAT: Final = {
    0x1: "sparse_super", 0x2: "large_file", 0x8: "huge_file", 0x10: "uninit_bg",
    0x20: "dir_nlink", 0x40: "extra_isize", 0x100: "quota", 0x400: "metadata_csum",
    0x2000: "project", 0x8000: "verity", 0x10000: "orphan_present",
}  # fmt: skip
_REFUSED: Final = {
    ("compat", 0x2): "imagic_inodes", ("incompat", 0x1): "compression",
    ("incompat", 0x10): "meta_bg", ("incompat", 0x100): "mmp", ("incompat", 0x400): "ea_inode",
    ("incompat", 0x1000): "dirdata", ("incompat", 0x8000): "inline_data",
    ("incompat", 0x20000): "casefold", ("ro_compat", 0x200): "bigalloc",
    ("ro_compat", 0x1000): "read-only", ("ro_compat", 0x4000): "shared_blocks",
}  # fmt: skip
"""Names of features that are known and not understood; only for the sentence."""

_EXTENTS: Final = 0x40
_64BIT: Final = 0x80
_CHECKSUMS: Final = 0x10 | 0x400
_SET_BY_KERNEL: Final = {
    "compat": 0x8,
    "incompat": 0x4 | 0x2000,
    "ro_compat": 0x2 | 0x8 | 0x20 | 0x10000,
}
"""Features that come and go while mounted (ext_attr, needs_recovery, large_file, huge_file,
dir_nlink, orphan_present), and metadata_csum_seed, which a fix-up sets on the slot."""
_ERRORS: Final = 0x2


@dataclass(frozen=True, slots=True)
class Shape:
    """The shape of one ext4 file system that the detector understands."""

    base: Superblock
    desc_size: int
    """Bytes of a group descriptor."""
    reserved: int
    """Blocks behind each copy of the descriptors, reserved for growing."""
    journal: int
    """Number of the journal's inode, 0 when there is none; so with those below."""
    orphans: int
    quotas: tuple[int, int, int]
    made: tuple[bytes, int]
    """Hash seed and time of mke2fs: who differs in these is no copy."""
    checked: int
    """When e2fsck last went through all of it, in seconds since the epoch."""

    @property
    def checksummed(self) -> bool:
        """Whether group descriptors have valid flags and counts of unused inodes."""
        return bool(self.base.ro_compat & _CHECKSUMS)

    @property
    def desc_blocks(self) -> int:
        """Blocks of one copy of the group descriptors."""
        return -(-self.base.groups * self.desc_size // self.base.block)

    @property
    def table_blocks(self) -> int:
        """Blocks of one group's inode table."""
        return -(-self.base.inodes_per_group * self.base.inode_size // self.base.block)

    @property
    def firsts(self) -> list[int]:
        """Numbers of the blocks that hold a superblock: the descriptors follow each."""
        return [start // self.base.block for start, _ in superblock.identity_blocks(self.base)]

    def heads(self) -> BlockSet:
        """Superblocks and group descriptors with all their backups, as bytes.

        And what lies before the file system (a boot sector).
        """
        return self._heads(1 + self.desc_blocks)

    def whole_heads(self) -> BlockSet:
        """The same with the reserved blocks.

        These are written when the file system grows, which its superblock tells, and never else.
        """
        return self._heads(1 + self.desc_blocks + self.reserved)

    def _heads(self, length: int) -> BlockSet:
        block = self.base.block
        areas = [(first * block, (first + length) * block) for first in self.firsts]
        return BlockSet.of([(0, block), *areas]).within(self.base.size)


def understand(data: bytes) -> Shape:
    """The shape that a superblock (1,024 bytes) tells. Raises UseCompare, saying why not."""
    try:
        base = superblock.parse(data, "it")
    except CannotCopyFileSystem:
        raise UseCompare("it has no ext4 superblock") from None
    known = (
        ("compat", base.compat, _COMPAT),
        ("incompat", base.incompat, _INCOMPAT),
        ("ro_compat", base.ro_compat, _RO_COMPAT),
    )
    for kind, bits, names in known:
        if strange := bits & ~sum(names):
            lowest = strange & -strange
            raise UseCompare(
                f"it has the feature {_REFUSED.get((kind, lowest), f'{kind} {lowest:#x}')}"
            )
    (state,) = struct.unpack_from("<H", data, 0x3A)
    desc_size, reserved = (
        struct.unpack_from("<H", data, 0xFE)[0],
        struct.unpack_from("<H", data, 0xCE)[0],
    )
    journal, journal_dev = struct.unpack_from("<2I", data, 0xE0)
    made, made_high = struct.unpack_from("<I", data, 0x108)[0], data[0x276]
    users, groups = struct.unpack_from("<2I", data, 0x240)
    (projects,) = struct.unpack_from("<I", data, 0x26C)
    shape = Shape(
        base=base,
        desc_size=desc_size if base.incompat & _64BIT else 32,
        reserved=reserved,
        journal=journal if base.compat & 0x4 else 0,
        orphans=struct.unpack_from("<I", data, 0x280)[0] if base.compat & 0x1000 else 0,
        quotas=(users, groups, projects) if base.ro_compat & 0x100 else (0, 0, 0),
        made=(data[0xEC:0xFC], made | made_high << 32),
        checked=struct.unpack_from("<I", data, 0x40)[0] | data[0x277] << 32,
    )
    if not base.incompat & _EXTENTS:
        raise UseCompare("its files are block-mapped (no feature extent)")
    if base.inode_size < 256 or base.inode_size > base.block:
        raise UseCompare(f"its inodes are of {base.inode_size} bytes")
    if base.compat & 0x4 and (journal_dev or not journal):
        raise UseCompare("its journal is on another device")
    if state & _ERRORS:
        raise UseCompare("the kernel has found errors in it: run e2fsck")
    if (
        shape.desc_size not in {32, 64, 128, 256, 512, 1024}
        or base.inodes_per_group * base.inode_size % base.block
        or base.inodes_per_group > 8 * base.block
        or base.inodes_per_group % 8
        or base.inode_size & (base.inode_size - 1)
        or base.blocks_per_group > 8 * base.block
        or base.inodes != base.groups * base.inodes_per_group
        or base.blocks <= base.first_block
    ):
        raise UseCompare("its superblock contradicts itself")
    return shape


def one_origin(volume: Shape, slot: Shape) -> None:
    """Raise UseCompare unless `slot` was left by a backup of `volume`.

    Nor may a tool for offline changes have gone over one of them since.
    """
    if volume.made != slot.made:
        raise UseCompare("the slot holds another file system")
    if volume.checked != slot.checked:
        # Repairs and optimised folders leave time stamps alone.
        raise UseCompare("it was checked by e2fsck since the last backup")
    for kind, ignored in _SET_BY_KERNEL.items():
        if changed := (getattr(volume.base, kind) ^ getattr(slot.base, kind)) & ~ignored:
            raise UseCompare(f"its features changed since the last backup ({kind} {changed:#x})")
    if _without_names(volume) != _without_names(slot):
        raise UseCompare("its size or shape changed since the last backup")


def _without_names(shape: Shape) -> tuple[object, ...]:
    base = shape.base
    return (
        base.block, base.blocks, base.first_block, base.blocks_per_group, base.inodes,
        base.inodes_per_group, base.inode_size, base.backup_groups, shape.desc_size,
        shape.reserved, shape.journal, shape.orphans, shape.quotas,
    )  # fmt: skip
