# SPDX-License-Identifier: GPL-3.0-or-later
"""Which blocks of a mounted file system are in use, asked from the kernel that changes them.

FS_IOC_GETFSMAP (ext4, XFS) answers from memory: blocks that are reserved for a file count as
used, so the map is never smaller than the one on disk. A map of a file system that is written to
is stale at once; what was allocated since shows up as a write in the tracker.
"""

import errno
import fcntl
import os
import struct
from pathlib import Path
from typing import Final

import numpy as np

from builder.change.free import Free
from core.errors import CannotCopyFileSystem, ReadFailed
from core.errors.system import reason_of
from core.machine.mounts import parse_swaps
from core.model.blockset import EMPTY, BlockSet

# linux/fsmap.h: struct fsmap_head is 64 bytes, two keys and the records are struct fsmap.
_FS_IOC_GETFSMAP: Final = 0xC0C0583B
_FSMAP_HEAD: Final = struct.Struct("=4I48x")
_FSMAP: Final = np.dtype(
    [
        ("device", "=u4"), ("flags", "=u4"), ("physical", "=u8"), ("owner", "=u8"),
        ("offset", "=u8"), ("length", "=u8"), ("reserved", "=u8", 3),
    ]
)  # fmt: skip
_SPECIAL_OWNER: Final = 0x10
_LAST: Final = 0x20
_OWN_FREE: Final = 1
_RECORDS: Final = 8192

# linux/fiemap.h: struct fiemap is 32 bytes, then come the records, struct fiemap_extent.
_FS_IOC_FIEMAP: Final = 0xC020660B
_FIEMAP_HEAD: Final = struct.Struct("=2Q4I")
_FIEMAP_EXTENT: Final = np.dtype(
    [
        ("logical", "=u8"), ("physical", "=u8"), ("length", "=u8"), ("reserved64", "=u8", 2),
        ("flags", "=u4"), ("reserved", "=u4", 3),
    ]
)  # fmt: skip
_EXTENT_LAST: Final = 0x1
_EXTENT_NOWHERE: Final = 0x2 | 0x4 | 0x200
"""Location unknown, not yet allocated, or inside an inode: no blocks of its own."""


def used(mountpoint: str, size: int, records: int = _RECORDS, free: Free | None = None) -> BlockSet:
    """The byte ranges in use of the file system of `size` bytes that is mounted at `mountpoint`.

    `records` are fetched at a time. Where there are very many free extents the short ones count
    as used; who asks again gives the same `free`, so that they are the same ones. Raises
    CannotCopyFileSystem when it has no such map, ReadFailed when it cannot be read.
    """
    # All that is not free: ext4 leaves out some stretches in use (Linux 6.18: those between the
    # last free blocks of a group and the next group), never free ones.
    free = free or Free()
    free.begin()
    buffer = bytearray(_FSMAP_HEAD.size + (2 + records) * _FSMAP.itemsize)
    table = np.frombuffer(buffer, dtype=_FSMAP, offset=_FSMAP_HEAD.size)
    for field in ("device", "flags", "physical", "owner", "offset"):
        table[field][1] = np.iinfo(_FSMAP[field]).max
    folder = os.open(mountpoint, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        dev = os.fstat(folder).st_dev
        while True:
            _FSMAP_HEAD.pack_into(buffer, 0, 0, 0, records, 0)
            fcntl.ioctl(folder, _FS_IOC_GETFSMAP, buffer)
            entries = _FSMAP_HEAD.unpack_from(buffer)[3]
            if entries == 0:
                break
            page = table[2 : 2 + entries]
            is_free = (page["owner"] == _OWN_FREE) & (page["flags"] & _SPECIAL_OWNER != 0)
            here = page[is_free & (page["device"] == _new_encode(dev))]
            free.add(here["physical"], here["physical"] + here["length"])
            if page["flags"][-1] & _LAST:
                break
            table[0] = page[-1]
    except OSError as error:
        what = f"The file system at {mountpoint} does not tell which of its blocks are in use"
        if error.errno in {errno.ENOTTY, errno.EOPNOTSUPP, errno.EINVAL}:
            raise CannotCopyFileSystem(f"{what}.") from error
        raise ReadFailed(f"{what}: {reason_of(error)}.") from error
    finally:
        os.close(folder)
    return free.used(size)


def swap_extents(mountpoint: str) -> BlockSet:
    """Where the active swap files of a mounted file system lie: their content is nobody's data."""
    swaps = parse_swaps(Path("/proc/swaps").read_text("utf-8"))
    dev = os.stat(mountpoint).st_dev
    files = (swap.path for swap in swaps if swap.kind == "file")
    return EMPTY.union(*(file_extents(path) for path in files if _is_on(path, dev)))


def file_extents(path: str, records: int = 512) -> BlockSet:
    """Where the content of a file lies on the device of its file system (FIEMAP).

    A file that is gone has none.
    """
    found = []
    buffer = bytearray(_FIEMAP_HEAD.size + records * _FIEMAP_EXTENT.itemsize)
    table = np.frombuffer(buffer, dtype=_FIEMAP_EXTENT, offset=_FIEMAP_HEAD.size)
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return EMPTY
    try:
        start = 0
        while True:
            _FIEMAP_HEAD.pack_into(buffer, 0, start, 2**64 - 1 - start, 0, 0, records, 0)
            fcntl.ioctl(file, _FS_IOC_FIEMAP, buffer)
            entries = _FIEMAP_HEAD.unpack_from(buffer)[3]
            if entries == 0:
                break
            page = table[:entries]
            here = page[page["flags"] & _EXTENT_NOWHERE == 0]
            ends = here["physical"] + here["length"]
            found.append(np.column_stack((here["physical"], ends)).astype(np.int64))
            if page["flags"][-1] & _EXTENT_LAST:
                break
            start = int(page["logical"][-1] + page["length"][-1])
    finally:
        os.close(file)
    return BlockSet.of(np.concatenate(found)) if found else EMPTY


def _is_on(path: str, dev: int) -> bool:
    try:
        return os.stat(path).st_dev == dev
    except FileNotFoundError:
        return False


def _new_encode(dev: int) -> int:
    """A device number as the kernel gives it to programs in 32 bits (`new_encode_dev`)."""
    major, minor = os.major(dev), os.minor(dev)
    return (minor & 0xFF) | (major << 8) | ((minor & ~0xFF) << 12)
