# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads and writes devices past the page cache, which may be stale for a mounted file system.

Buffers, offsets and lengths are multiples of the device's sector. An image file on a file system
without O_DIRECT (tmpfs) is read and written through the page cache instead.
"""

import contextlib
import errno
import fcntl
import mmap
import os
import stat
from collections.abc import Iterable
from typing import Final, Protocol

from core.errors import ReadFailed, WriteFailed
from core.errors.system import reason_of

_LONGEST: Final = 16 << 20
_HUGE: Final = 2 << 20
"""Bytes of a large page: had, and handed to a disk, far quicker than 512 small ones."""
_POPULATE_WRITE: Final = 23
"""MADV_POPULATE_WRITE; linux/mman.h."""


class Writer(Protocol):
    """Where the copier puts what it has read: a slot, with or without an undo log before it."""

    def write(self, offset: int, view: memoryview) -> None:
        """Write `view` at `offset` bytes; `view` belongs to the caller again afterwards."""

    def flush(self) -> None:
        """Return when all that was written would outlast a power cut."""


def buffer(size: int) -> memoryview:
    """Memory for `size` bytes, on a page boundary, and already there when the function returns."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    if size < _HUGE:
        return memoryview(mmap.mmap(-1, size, flags=flags | mmap.MAP_POPULATE))
    room = mmap.mmap(-1, size, flags=flags)
    with contextlib.suppress(OSError):  # a kernel without large pages
        room.madvise(mmap.MADV_HUGEPAGE)
    try:
        room.madvise(_POPULATE_WRITE)
    except OSError:  # older than Linux 5.14
        for at in range(0, size, mmap.PAGESIZE):
            room[at] = 0
    return memoryview(room)


class Reader:
    """One device or image, read only. Raises ReadFailed when it cannot be opened."""

    def __init__(self, path: str) -> None:
        self._path = path
        try:
            self._file = _open(path, os.O_RDONLY)
        except OSError as error:
            raise ReadFailed(f"{path} cannot be opened: {reason_of(error)}.") from error

    def read_into(self, offset: int, view: memoryview) -> None:
        """Fill `view` from `offset` bytes on. Raises ReadFailed."""
        done = 0
        while done < len(view):
            try:
                count = os.preadv(self._file, [view[done:]], offset + done)
            except OSError as error:
                if error.errno == errno.EINVAL and _give_up_direct(self._file):
                    continue
                raise ReadFailed(
                    f"{self._path} cannot be read at byte {offset + done}: {reason_of(error)}."
                ) from error
            if count == 0:
                raise ReadFailed(f"{self._path} ends at byte {offset + done}; more was expected.")
            done += count

    def close(self) -> None:
        os.close(self._file)


class SlotWriter:
    """Writes a slot's device, with nothing before it. Raises WriteFailed."""

    def __init__(self, path: str) -> None:
        self._path = path
        try:
            self._file = _open(path, os.O_WRONLY)
            self.size = os.lseek(self._file, 0, os.SEEK_END)
            """Bytes that it has."""
        except OSError as error:
            raise WriteFailed(f"{path} cannot be opened: {reason_of(error)}.") from error

    def write(self, offset: int, view: memoryview) -> None:
        done = 0
        while done < len(view):
            try:
                done += os.pwritev(self._file, [view[done : done + _LONGEST]], offset + done)
            except OSError as error:
                if error.errno == errno.EINVAL and _give_up_direct(self._file):
                    continue
                raise WriteFailed(
                    f"{self._path} cannot be written at byte {offset + done}: {reason_of(error)}."
                ) from error

    def flush(self) -> None:
        try:
            os.fsync(self._file)
        except OSError as error:
            raise WriteFailed(
                f"{self._path} does not keep what is written to it: {reason_of(error)}."
            ) from error

    def close(self) -> None:
        os.close(self._file)


def write_blocks(writer: Writer, blocks: Iterable[tuple[int, bytes]]) -> None:
    """Write blocks of `(offset, content)`, and flush."""
    for offset, content in blocks:
        view = buffer(len(content))  # O_DIRECT wants memory on a page boundary
        view[:] = content
        writer.write(offset, view)
    writer.flush()


def _open(path: str, how: int) -> int:
    how |= os.O_CLOEXEC
    try:
        return os.open(path, how | os.O_DIRECT)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return os.open(path, how)


def _give_up_direct(file: int) -> bool:
    """Go on through the page cache: for files alone, a device must not be read through it."""
    flags = fcntl.fcntl(file, fcntl.F_GETFL)
    if not flags & os.O_DIRECT or not stat.S_ISREG(os.fstat(file).st_mode):
        return False
    fcntl.fcntl(file, fcntl.F_SETFL, flags & ~os.O_DIRECT)
    return True
