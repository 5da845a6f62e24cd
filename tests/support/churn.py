# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes a mounted file system in every way that files are changed, at random but repeatable."""

import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import random
import shutil
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from core.run import have, run

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_KEEP_SIZE, _PUNCH, _COLLAPSE, _ZERO, _INSERT = 1, 2, 8, 16, 32
_FIFREEZE: Final = 0xC0045877
_FITHAW: Final = 0xC0045878
_FITRIM: Final = 0xC0185879
_GETFLAGS, _SETFLAGS = 0x80086601, 0x40086602
_NO_DUMP, _NO_ATIME = 0x40, 0x80
_MOST: Final = 300
"""Files that are kept in mind."""
FULL: Final = 0.15
"""Of the file system is left free: a mapped hole that cannot be filled kills the process."""
_LONG_MAP: Final = 8 << 20
_APART: Final = 12_288
"""Bytes from one piece of a fragmented file to the next."""


def fallocate(file: int, mode: int, offset: int, length: int) -> None:
    call = _LIBC.fallocate
    call.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    if call(file, mode, offset, length) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@contextlib.contextmanager
def frozen(mountpoint: Path) -> Iterator[None]:
    """Within, nothing changes; no time stamp of later is one of before."""
    folder = os.open(mountpoint, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _LIBC.syncfs(folder)
        fcntl.ioctl(folder, _FIFREEZE, 0)
        try:
            yield
            begun = time.clock_gettime_ns(time.CLOCK_REALTIME)
            while time.clock_gettime_ns(5) <= begun:  # CLOCK_REALTIME_COARSE
                time.sleep(0.001)
        finally:
            fcntl.ioctl(folder, _FITHAW, 0)
    finally:
        os.close(folder)


class Churn:
    """One file system under random work; `seed` says which."""

    def __init__(self, top: Path, seed: int) -> None:
        self._top = top
        self._random = random.Random(seed)
        self._files: list[Path] = []
        self._folders: list[Path] = [top]
        self._open: list[int] = []
        self._fragmented: list[Path] = []
        self._interleaved: list[Path] = []
        self._sharers: list[Path] = []
        self._count = 0
        self.done: dict[str, int] = {}
        """How often each thing was done."""
        self._kinds: tuple[Callable[[], None], ...] = (
            self._create, self._create, self._create, self._overwrite, self._overwrite,
            self._append, self._map, self._map_all, self._truncate, self._preallocate,
            self._write_preallocated, self._punch, self._zero, self._collapse, self._insert,
            self._rename, self._exchange_parents, self._link, self._unlink, self._unlink_open,
            self._sparse, self._shared_xattrs, self._change_xattr, self._symlink, self._times,
            self._defragment, self._flags, self._storm, self._remove_tree, self._read_all,
            self._grow_fragments, self._grow_fragments, self._interleave, self._drop_sharer,
            self._direct, self._fragment, self._mode, self._close, self._trim, self._special,
        )  # fmt: skip

    def work(self, steps: int) -> None:
        """Do `steps` random things; what a full file system refuses is left undone."""
        for _ in range(steps):
            kind = self._random.choice(self._kinds)
            state = os.statvfs(self._top)
            if state.f_bavail < FULL * state.f_blocks or state.f_favail < 64:
                kind = self._random.choice((self._unlink, self._remove_tree, self._truncate))
            try:
                kind()
            except OSError as error:
                if error.errno not in {
                    errno.ENOSPC, errno.EOPNOTSUPP, errno.EPERM, errno.EINVAL, errno.EMLINK,
                    errno.ENOENT, errno.EEXIST, errno.EBUSY, errno.EDQUOT, errno.EFBIG,
                    errno.E2BIG, errno.ENODATA,
                }:  # fmt: skip
                    raise
                continue
            name = kind.__name__.lstrip("_")
            self.done[name] = self.done.get(name, 0) + 1

    def close(self) -> None:
        """Let go of deleted files, so that the file system can be unmounted."""
        for file in self._open:
            os.close(file)
        self._open.clear()

    # --- helpers --------------------------------------------------------------------------------

    def _some(self) -> Path:
        if not self._files:
            self._create()
        return self._random.choice(self._files)

    def _name(self) -> Path:
        self._count += 1
        length = self._random.choice((4, 12, 60, 200))
        return self._random.choice(self._folders) / f"{self._count:x}".ljust(length, "n")

    def _keep(self, path: Path) -> None:
        self._files.append(path)
        if len(self._files) > _MOST:
            self._files.pop(self._random.randrange(len(self._files)))

    def _bytes(self, most: int) -> bytes:
        return self._random.randbytes(self._random.randint(1, most))

    @contextlib.contextmanager
    def _opened(self, path: Path, flags: int = os.O_RDWR) -> Iterator[int]:
        file = os.open(path, flags | os.O_CLOEXEC, 0o600)
        try:
            yield file
            if self._random.random() < 0.2:
                os.fsync(file)
        finally:
            os.close(file)

    def _within(self, file: int, grain: int = 1) -> tuple[int, int]:
        """A random range of a file, in multiples of `grain`."""
        size = max(grain, os.fstat(file).st_size)
        start = self._random.randrange(size) // grain * grain
        length = max(grain, self._random.randrange(size) // grain * grain)
        return start, length

    # --- what is done ---------------------------------------------------------------------------

    def _create(self) -> None:
        path = self._name()
        with self._opened(path, os.O_RDWR | os.O_CREAT | os.O_EXCL) as file:
            os.write(file, self._bytes(self._random.choice((100, 5_000, 300_000))))
        self._keep(path)

    def _overwrite(self) -> None:
        with self._opened(self._some()) as file:
            start, length = self._within(file)
            os.pwrite(file, self._random.randbytes(min(length, 100_000)), start)

    def _append(self) -> None:
        with self._opened(self._some(), os.O_WRONLY | os.O_APPEND) as file:
            os.write(file, self._bytes(50_000))

    def _map(self) -> None:
        with self._opened(self._some()) as file:
            size = os.fstat(file).st_size
            if 0 < size < _LONG_MAP:
                with mmap.mmap(file, size) as view:
                    view[self._random.randrange(size)] ^= 0xFF

    def _map_all(self) -> None:
        with self._opened(self._some()) as file:
            size = os.fstat(file).st_size
            state = os.fstatvfs(file)
            if 0 < size < min(_LONG_MAP, state.f_bavail * state.f_bsize // 2):
                with mmap.mmap(file, size) as view:
                    for at in range(0, size, 4096):
                        view[at] ^= 0x55
                    if self._random.random() < 0.5:
                        view.flush()

    def _truncate(self) -> None:
        path = self._some()
        os.truncate(path, self._random.choice((0, path.stat().st_size // 2, 70_000)))

    def _preallocate(self) -> None:
        with self._opened(self._some()) as file:
            mode = self._random.choice((0, _KEEP_SIZE))
            fallocate(
                file, mode, self._random.randrange(400_000), self._random.randrange(1, 500_000)
            )

    def _write_preallocated(self) -> None:
        self._preallocate()
        self._overwrite()

    def _punch(self) -> None:
        with self._opened(self._some()) as file:
            fallocate(file, _PUNCH | _KEEP_SIZE, *self._within(file))

    def _zero(self) -> None:
        with self._opened(self._some()) as file:
            fallocate(file, _ZERO | _KEEP_SIZE, *self._within(file))

    def _collapse(self) -> None:
        with self._opened(self._some()) as file:
            fallocate(file, _COLLAPSE, *self._within(file, os.fstatvfs(file).f_bsize))

    def _insert(self) -> None:
        with self._opened(self._some()) as file:
            start, length = self._within(file, os.fstatvfs(file).f_bsize)
            fallocate(file, _INSERT, start, min(length, 1 << 20))

    def _rename(self) -> None:
        path, new = self._some(), self._name()
        if self._random.random() < 0.3:
            new = self._some()
        path.rename(new)
        self._files = [each for each in self._files if each not in {path, new}]
        self._files.append(new)

    def _exchange_parents(self) -> None:
        if len(self._folders) > 2:
            one = self._random.choice(self._folders[1:])
            home = self._random.choice(self._folders)
            if one not in {home, *home.parents}:
                self._move(one, home / f"moved{self._count}")

    def _move(self, old: Path, new: Path) -> None:
        old.rename(new)
        self._count += 1

        def moved(path: Path) -> Path:
            inside = path == old or old in path.parents
            return new / path.relative_to(old) if inside else path

        self._folders = [moved(path) for path in self._folders]
        self._files = [moved(path) for path in self._files]

    def _link(self) -> None:
        new = self._name()
        os.link(self._some(), new)
        self._keep(new)

    def _unlink(self) -> None:
        path = self._some()
        self._files.remove(path)
        path.unlink()

    def _unlink_open(self) -> None:
        path = self._some()
        self._open.append(os.open(path, os.O_RDWR | os.O_CLOEXEC))
        self._files.remove(path)
        path.unlink()
        if len(self._open) > 5:
            self._close()

    def _close(self) -> None:
        if self._open:
            os.close(self._open.pop(0))

    def _sparse(self) -> None:
        path = self._name()
        with self._opened(path, os.O_RDWR | os.O_CREAT) as file:
            for _ in range(self._random.randint(1, 8)):
                os.pwrite(file, self._bytes(3_000), self._random.randrange(1 << 34))
        self._keep(path)

    def _fragment(self) -> None:
        """A file of many extents: with more than four, its tree gets blocks of its own."""
        path = self._name()
        with self._opened(path, os.O_RDWR | os.O_CREAT) as file:
            for n in range(self._random.choice((3, 4, 6, 60, 400))):
                os.pwrite(file, self._random.randbytes(700), n * _APART)
        self._keep(path)
        self._fragmented = [*self._fragmented[-20:], path]

    def _grow_fragments(self) -> None:
        """Change some of its pieces, add some: its tree changes, the old extents move."""
        for path in self._random.sample(self._fragmented, min(3, len(self._fragmented))):
            with self._opened(path) as file:
                pieces = os.fstat(file).st_size // _APART + 1
                for _ in range(self._random.randint(0, 2)):
                    at = self._random.randrange(pieces) * _APART
                    os.pwrite(file, self._random.randbytes(700), at)
                for n in range(self._random.randint(0, 3)):
                    os.pwrite(file, self._random.randbytes(700), (pieces + n) * _APART)

    def _interleave(self) -> None:
        """Two files that grow by turns: many extents without a hole, which e4defrag can join."""
        files = [self._name(), self._name()]
        for n in range(self._random.choice((8, 40))):
            for path in files:
                with self._opened(path, os.O_RDWR | os.O_CREAT) as file:
                    os.pwrite(file, self._random.randbytes(4096), n * 4096)
                    os.fsync(file)
        self._files += files
        self._interleaved = [*self._interleaved[-10:], *files]

    def _drop_sharer(self) -> None:
        """Others that share the attributes are not touched, but their block counts them."""
        if self._sharers:
            path = self._sharers.pop(self._random.randrange(len(self._sharers)))
            if self._random.random() < 0.5:
                os.removexattr(path, "user.shared")
            else:
                path.unlink()
                self._files = [each for each in self._files if each != path]

    def _shared_xattrs(self) -> None:
        """The same attributes on several files: too large for the inode, they share a block."""
        value = self._random.choice((b"a", b"b", b"c")) * 400
        for _ in range(self._random.randint(2, 5)):
            path = self._some()
            os.setxattr(path, "user.shared", value)
            self._sharers = [*self._sharers[-30:], path]

    def _change_xattr(self) -> None:
        path = self._some()
        names = os.listxattr(path)
        if names and self._random.random() < 0.5:
            os.removexattr(path, self._random.choice(names))
        else:
            os.setxattr(path, f"user.{self._random.randrange(4)}", self._bytes(500))

    def _symlink(self) -> None:
        path = self._name()
        os.symlink("t" * self._random.choice((10, 59, 60, 61, 900)), path)
        if self._random.random() < 0.5:
            path.unlink()

    def _times(self) -> None:
        path = self._some()
        if self._random.random() < 0.5:
            self._overwrite()
        past = self._random.randrange(2**31) * 1_000_000_000
        os.utime(path, ns=(past, past))

    def _defragment(self) -> None:
        if have("e4defrag") and self._interleaved:
            run("e4defrag", str(self._random.choice(self._interleaved)), ok=range(256))

    def _flags(self) -> None:
        with self._opened(self._some()) as file:
            flags = struct.unpack("=L", fcntl.ioctl(file, _GETFLAGS, bytes(8))[:4])[0]
            flags ^= self._random.choice((_NO_DUMP, _NO_ATIME))
            fcntl.ioctl(file, _SETFLAGS, struct.pack("=Q", flags))

    def _storm(self) -> None:
        """Many small files in one folder, or a deep row of folders."""
        folder = self._random.choice(self._folders) / f"storm{self._count}"
        self._count += 1
        folder.mkdir()
        for n in range(self._random.choice((5, 150))):
            with self._opened(folder / f"{n:040}", os.O_RDWR | os.O_CREAT) as file:
                os.write(file, b"x" * (n % 50))
        self._folders.append(folder)
        for _ in range(self._random.choice((0, 8))):
            folder /= "deeper"
            folder.mkdir()

    def _remove_tree(self) -> None:
        if len(self._folders) > 1:
            folder = self._folders.pop(self._random.randrange(1, len(self._folders)))
            shutil.rmtree(folder)
            self._folders = [each for each in self._folders if folder not in each.parents]
            self._files = [each for each in self._files if folder not in each.parents]

    def _read_all(self) -> None:
        """Time stamps of reading change, and nothing else."""
        for path in self._files[:50]:
            with contextlib.suppress(FileNotFoundError):
                path.read_bytes() if path.stat().st_size < 1 << 20 else None
        os.listdir(self._random.choice(self._folders))

    def _direct(self) -> None:
        with self._opened(self._some(), os.O_RDWR | os.O_DIRECT) as file:
            view = mmap.mmap(-1, 8192)
            view[:] = self._random.randbytes(8192)
            os.pwrite(file, view, self._random.randrange(20) * 4096)

    def _mode(self) -> None:
        self._some().chmod(self._random.choice((0o600, 0o644, 0o755)))

    def _special(self) -> None:
        os.mknod(self._name(), self._random.choice((0o10600, 0o20600, 0o140600)), os.makedev(1, 3))

    def _trim(self) -> None:
        folder = os.open(self._top, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(folder, _FITRIM, struct.pack("=3Q", 0, 2**64 - 1, 0))
        finally:
            os.close(folder)
