# SPDX-License-Identifier: GPL-3.0-or-later
"""Atomic and durable writes, and locks."""

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from core.errors import AlreadyRunning

LOCK: Final = Path("/run/dpsr/lock")
"""Held by whoever looks into the DPSR disk or changes it: one at a time."""
HIDING: Final = "hide"
"""Who holds a lock for this lets go within a moment: the disk is being detached."""
_PATIENCE: Final = 20.0
"""Seconds."""


def write_durably(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Replace `path` by `data`: after a power cut it holds the old bytes or the new, never a mix.

    The file is synced before it takes the name, folder and file after. That holds where there is
    no journal (FAT), too, in a folder whose entries fit into one sector.
    """
    with _replaced(path, mode) as stream:
        stream.write(data)


def copy_durably(source: Path, path: Path, mode: int = 0o644) -> None:
    """The same with the content of `source`, which may be large."""
    with open(source, "rb") as content, _replaced(path, mode) as stream:
        shutil.copyfileobj(content, stream, 1 << 20)


@contextmanager
def _replaced(path: Path, mode: int) -> Iterator[BinaryIO]:
    """What is written in the block takes the name `path` when it is over, and on the disk."""
    part = path.with_name(f".{path.name}.part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        with open(descriptor, "wb") as stream, _kept(path):
            yield stream
            stream.flush()
            os.fchmod(stream.fileno(), mode)
            os.fsync(stream.fileno())
            os.replace(part, path)
            # The name of the part goes first: FAT would else have two for the same content.
            sync_folder(path.parent)
            # FAT leaves the name with the old content, or with none, until the inode is written.
            os.fsync(stream.fileno())
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            part.unlink()
        raise
    sync_folder(path.parent)


@contextmanager
def _kept(path: Path) -> Iterator[None]:
    """A file that loses its name in the block keeps its content on the disk as long.

    FAT would free it before the name has come to the disk with its new content.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:  # nothing that could be lost
        yield
        return
    try:
        yield
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_device(path: str) -> None:
    """Return when all that was written to the block device `path` would outlast a power cut.

    An unmount leaves the last of it in the disk's own cache.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def lock(path: Path, what: str) -> Iterator[None]:
    """Hold the lock file `path` for the length of the block; `what` is told to a second one.

    Raises AlreadyRunning, with the words of the one who holds it, unless that one only hides the
    disk. The kernel lets go when the process dies, however it dies.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+b") as stream:
        _take(stream)
        stream.seek(0)
        stream.truncate(0)
        stream.write(f"dpsr {what}, process {os.getpid()}".encode())
        stream.flush()
        yield
        stream.truncate(0)


def _take(stream: BinaryIO) -> None:
    """Raises AlreadyRunning."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            return fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.seek(0)
            holder = stream.read().decode("utf-8", "replace").strip()
            # Empty: it was taken, or is let go, at this moment.
            passing = not holder or f"dpsr {HIDING}," in holder
            if not passing or time.monotonic() > deadline:
                raise AlreadyRunning(holder or "it does not say what it does") from None
            time.sleep(0.05)


def held_by(path: Path) -> str:
    """What the one who holds the lock file `path` says of itself; empty when nobody does."""
    try:
        with open(path, "rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return ""
    except BlockingIOError:
        return path.read_text("utf-8", "replace").strip() or "dpsr"
    except OSError:
        return ""
