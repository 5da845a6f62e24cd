# SPDX-License-Identifier: GPL-3.0-or-later
"""A few sectors of a disk, read and written past every cache. Errors are the system's own OSError.

Image files go through the cache, since not every file system has O_DIRECT.
"""

import errno
import fcntl
import mmap
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

SECTOR: Final = 512
"""Unit of the kernel's own figures, and of image files."""

_BLKSSZGET: Final = 0x1268


def size_of(disk: str) -> int:
    """Logical sector size of `disk` in bytes."""
    with open(disk, "rb", buffering=0) as stream:
        if not stat.S_ISBLK(os.fstat(stream.fileno()).st_mode):
            return SECTOR
        size: int = struct.unpack("i", fcntl.ioctl(stream, _BLKSSZGET, bytes(4)))[0]
        return size


def read(disk: str, offset: int, size: int) -> bytes:
    """`size` bytes at `offset`; neither need be a multiple of the sector size."""
    sector = size_of(disk)
    begin = offset - offset % sector
    span = -(-(offset + size - begin) // sector) * sector
    with _open(disk, os.O_RDONLY, bytes(span)) as (descriptor, buffer):
        if os.preadv(descriptor, [buffer], begin) != span:
            raise OSError(errno.EIO, "the disk ends there")
        return buffer[offset - begin : offset - begin + size]


def write(disk: str, offset: int, data: bytes) -> None:
    """Write whole sectors by one request and flush the disk's own cache."""
    with _open(disk, os.O_RDWR | os.O_DSYNC, data) as (descriptor, buffer):
        if os.pwritev(descriptor, [buffer], offset) != len(data):
            raise OSError(errno.EIO, "not all of it was written")
        os.fsync(descriptor)


def whole_disk(device: int) -> tuple[str, int]:
    """Path of the disk that a block device lies on, and the byte on it where the device begins."""
    folder = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve()
    try:
        start = int((folder / "start").read_text(encoding="ascii")) * SECTOR
        folder = folder.parent
    except FileNotFoundError:
        start = 0  # no partition: the whole of a disk
    return f"/dev/{folder.name.replace('!', '/')}", start


@contextmanager
def _open(disk: str, flags: int, content: bytes) -> Iterator[tuple[int, mmap.mmap]]:
    """The disk, and `content` in a page-aligned buffer as O_DIRECT wants it."""
    direct = os.O_DIRECT if stat.S_ISBLK(os.stat(disk).st_mode) else 0
    descriptor = os.open(disk, flags | direct | os.O_CLOEXEC)
    try:
        with mmap.mmap(-1, len(content)) as buffer:
            buffer[:] = content
            yield descriptor, buffer
    finally:
        os.close(descriptor)
