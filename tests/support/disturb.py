# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes to a folder in every way that a file system knows, at random, until it is killed.

`disturb.py FOLDER SEED PAUSE LARGEST`: a pause in seconds between two deeds, and how many bytes
the largest files begin with. A process of its own: one
that waits for a frozen file system inside a store to mapped memory holds Python's lock. The
standard library alone.
"""

import contextlib
import ctypes
import errno
import mmap
import os
import random
import sys
import time
from pathlib import Path

LIBC = ctypes.CDLL(None, use_errno=True)
KEEP_SIZE, PUNCH, COLLAPSE, ZERO = 1, 2, 8, 16
MOST = 40


class Disturbance:
    """One folder, and deeds to choose from."""

    def __init__(self, folder: Path, seed: int, largest: int) -> None:
        self.folder = folder
        self.sizes = (300, 9000, largest // 10, largest)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.dice = random.Random(seed)
        self.count = 0

    def run(self, pause: float) -> None:
        deeds = [
            self.create, self.create, self.overwrite, self.overwrite, self.append, self.rename,
            self.link, self.unlink, self.map, self.allocate, self.hole, self.truncate,
            self.attribute, self.folders, self.direct, self.sync, self.touch, self.tiny,
        ]  # fmt: skip
        while True:
            try:
                self.dice.choice(deeds)()
            except OSError as error:
                if error.errno not in {errno.ENOSPC, errno.EOPNOTSUPP, errno.EINVAL, errno.EMLINK}:
                    raise
                self.unlink()
            time.sleep(pause)

    def files(self) -> list[Path]:
        return [path for path in self.folder.iterdir() if path.is_file() and not path.is_symlink()]

    def some(self) -> Path:
        found = self.files()
        return self.dice.choice(found) if found else self.create()

    def bytes(self, most: int) -> bytes:
        return self.dice.randbytes(self.dice.randrange(1, most))

    def create(self) -> Path:
        self.count += 1
        path = self.folder / f"{self.count}-{self.dice.random()}"
        path.write_bytes(self.bytes(self.dice.choice(self.sizes)))
        while len(self.files()) > MOST:
            self.unlink()
        return path

    def overwrite(self) -> None:
        with self.some().open("r+b") as stream:
            stream.seek(self.dice.randrange(1 + os.fstat(stream.fileno()).st_size))
            stream.write(self.bytes(50_000))

    def append(self) -> None:
        with self.some().open("ab") as stream:
            stream.write(self.bytes(30_000))

    def tiny(self) -> None:
        (self.folder / "tiny").write_bytes(self.bytes(60))

    def rename(self) -> None:
        self.some().rename(self.some())

    def link(self) -> None:
        with contextlib.suppress(FileExistsError):
            os.link(self.some(), self.folder / f"link-{self.dice.randrange(9)}")
        with contextlib.suppress(FileExistsError):
            os.symlink("x" * self.dice.randrange(1, 200), self.folder / f"s-{self.dice.random()}")

    def unlink(self) -> None:
        found = list(self.folder.iterdir())
        for path in self.dice.sample(found, min(len(found), 3)):
            if not path.is_dir():
                path.unlink()

    def map(self) -> None:
        state = os.statvfs(self.folder)
        if state.f_bavail < state.f_blocks // 10:
            return  # a mapped hole that cannot be filled kills the process
        with self.some().open("r+b") as stream:
            if (size := os.fstat(stream.fileno()).st_size) == 0:
                return
            with mmap.mmap(stream.fileno(), size) as memory:
                for _ in range(8):
                    memory[self.dice.randrange(size)] = self.dice.randrange(256)

    def allocate(self) -> None:
        self._fallocate(self.dice.choice((0, KEEP_SIZE)))

    def hole(self) -> None:
        self._fallocate(self.dice.choice((PUNCH | KEEP_SIZE, ZERO, COLLAPSE)))

    def _fallocate(self, mode: int) -> None:
        with self.some().open("r+b") as stream:
            start, length = (self.dice.randrange(1, 40) * 4096 for _ in range(2))
            args = (ctypes.c_int(mode), ctypes.c_long(start), ctypes.c_long(length))
            LIBC.fallocate(stream.fileno(), *args)  # where it cannot, it does nothing

    def truncate(self) -> None:
        os.truncate(self.some(), self.dice.randrange(400_000))

    def attribute(self) -> None:
        os.setxattr(self.some(), f"user.{self.dice.randrange(5)}", self.bytes(500))

    def folders(self) -> None:
        path = self.folder / f"folder-{self.dice.randrange(5)}"
        try:
            path.mkdir()
            for number in range(self.dice.randrange(200)):
                (path / f"{number}-{'n' * 100}").touch()
        except FileExistsError:
            for inner in path.iterdir():
                inner.unlink()
            path.rmdir()

    def direct(self) -> None:
        room = mmap.mmap(-1, 64 * 1024)
        room.write(self.dice.randbytes(len(room)))
        file = os.open(self.folder / "direct", os.O_RDWR | os.O_CREAT | os.O_DIRECT, 0o600)
        try:
            os.pwrite(file, room, self.dice.randrange(30) * 65536)
        finally:
            os.close(file)

    def touch(self) -> None:
        os.utime(self.some())

    def sync(self) -> None:
        file = os.open(self.some(), os.O_RDONLY)
        try:
            os.fsync(file)
        finally:
            os.close(file)


if __name__ == "__main__":
    Disturbance(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[4])).run(float(sys.argv[3]))
