# SPDX-License-Identifier: GPL-3.0-or-later
"""FAT slots: the primary's ESP cannot be frozen, so its files are copied, then checked.

The slot gets a file system of its own, with its own volume id from the first sector on; later
only the files that differ are copied again.
"""

import os
import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from core.errors import CopyDiffers, FixupFailed
from core.model.copy import Identity
from core.namespace import mounted
from core.run import run

_CHUNK: Final = 1024 * 1024
_TRIES: Final = 3
_FAT32_FROM: Final = 34 * 1024 * 1024
"""Smaller ones do not have the 65,525 clusters that FAT32 needs."""
_LEAST: Final = 32 * 1024
"""Bytes that a file or folder takes up at least: a cluster."""
_KEPT: Final = ("iocharset=", "codepage=", "utf8", "shortname=")


@dataclass(frozen=True, slots=True)
class _File:
    """One file or folder (`digest` empty) of a tree; `name` relative to it."""

    name: str
    size: int
    modified: int
    """Nanoseconds."""
    digest: str


def fill(device: str, name: str, new: Identity, source: Path, options: tuple[str, ...]) -> None:
    """Make a FAT file system on `device` that holds the files of `source`, a mounted one.

    `options`: those that `source` is mounted with. Raises FixupFailed when its files change all
    the while, CopyDiffers when the slot does not read back.
    """
    make(device, new)
    Refresh(source, options).go_on(device, name)


class Refresh:
    """Makes the files of a FAT file system those of `source`, a mounted one; equal ones stay.

    `options`: those that `source` is mounted with. `most`: about how many bytes one call of
    `go_on` brings.
    """

    def __init__(self, source: Path, options: tuple[str, ...], most: int = sys.maxsize) -> None:
        self._source = source
        self._how = ("noatime", *(option for option in options if option.startswith(_KEPT)))
        self._most = most
        self._room = 0
        """What is left of `most`."""
        self._tries = _TRIES
        self._begun = False
        self._wanted: tuple[_File, ...] = ()
        self._left: deque[_File] = deque()
        """What is to be brought yet."""
        self._at = 0
        """Bytes of the first of them that are there already."""

    def go_on(self, device: str, name: str) -> bool:
        """Bring what differs to `device`; True when that was all of it, and it was checked.

        To be called until then; `device` holds each time what it held after the call before.
        Raises as `fill` does; OSError; CommandFailed when `device` cannot be mounted.
        """
        self._room = self._most
        while True:
            try:
                with mounted(device, name, *self._how, fstype="vfat") as folder:
                    self._bring(folder)
                if self._left:
                    return False
                if _listed(self._source) == self._wanted:
                    break
            except (FileNotFoundError, NotADirectoryError):
                pass  # it was there when the files were listed
            self._begin_again()
        with mounted(device, name, "ro", *self._how, fstype="vfat") as folder:
            copied = {file.name: (file.size, file.digest) for file in _listed(folder)}
        if copied != {file.name: (file.size, file.digest) for file in self._wanted}:
            raise CopyDiffers(f"{device} does not read back what was copied from {self._source}.")
        return True

    def _begin_again(self) -> None:
        self._begun = False
        self._tries -= 1
        if not self._tries:
            raise FixupFailed(
                f"The files in {self._source} changed {_TRIES} times while they were copied.",
                "Try again when no update of the boot loader runs.",
            )

    def _bring(self, folder: Path) -> None:
        """Bring files as long as there is room."""
        if not self._begun:
            self._wanted = _listed(self._source)
            self._left, self._at = deque(_clear(folder, self._wanted)), 0
            self._begun = True
        while self._left and self._room > 0:
            file = self._left[0]
            target = folder / file.name
            if file.name.endswith("/"):
                target.mkdir()
            else:
                length = min(self._room, file.size - self._at)
                _append(self._source / file.name, target, self._at, length)
                self._at += length
                self._room -= length
                if self._at < file.size:
                    return
                os.utime(target, ns=(file.modified, file.modified))
            self._room -= _LEAST
            self._left.popleft()
            self._at = 0


def make(device: str, new: Identity) -> None:
    """Make an empty FAT file system with the identity `new`; always the same bytes."""
    kind = ("-F", "32") if _size(device) >= _FAT32_FROM else ()
    label = ("-n", new.label) if new.label else ()
    run("mkfs.fat", "--invariant", *kind, "-i", new.uuid.replace("-", ""), *label, device)


def _listed(root: Path) -> tuple[_File, ...]:
    return tuple(_files(root, root))


def _files(root: Path, folder: Path) -> Iterator[_File]:
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        path = Path(entry.path)
        status = entry.stat(follow_symlinks=False)
        name = str(path.relative_to(root))
        if entry.is_dir(follow_symlinks=False):
            yield _File(f"{name}/", 0, 0, "")
            yield from _files(root, path)
        else:
            yield _File(name, status.st_size, status.st_mtime_ns, _digest(path))


def _digest(path: Path, size: int = sys.maxsize) -> str:
    """Of the file's first `size` bytes."""
    import xxhash

    state = xxhash.xxh3_128()
    with path.open("rb") as stream:
        while chunk := stream.read(min(size, _CHUNK)):
            state.update(chunk)
            size -= len(chunk)
    return state.hexdigest()


def _clear(target: Path, wanted: tuple[_File, ...]) -> list[_File]:
    """Take away what is not wanted in `target`, or differs; return what is missing then.

    All of it goes before anything comes: the slot may be nearly full.
    """
    missing = {file.name: file for file in wanted}
    for name in sorted(_names(target), reverse=True):  # what is inside goes first
        path = target / name
        file = missing.get(name)
        if name.endswith("/"):
            if file is None:
                path.rmdir()
                continue
        elif file is None or not _keep(path, file):
            path.unlink()
            continue
        del missing[name]
    return list(missing.values())


def _names(root: Path) -> Iterator[str]:
    for folder, folders, files in os.walk(root):
        inside = Path(folder).relative_to(root)
        yield from (f"{inside / name}/" for name in folders)
        yield from (str(inside / name) for name in files)


def _keep(path: Path, file: _File) -> bool:
    """Let `path` be `file` without copying it; False when its content is another.

    Earlier fix-ups appended to initrds: what is behind their content is cut off.
    """
    status = path.lstat()
    if status.st_size < file.size or _digest(path, file.size) != file.digest:
        return False
    if status.st_size > file.size:
        os.truncate(path, file.size)
    if status.st_size > file.size or status.st_mtime_ns != file.modified:
        os.utime(path, ns=(file.modified, file.modified))
    return True


def _append(ours: Path, theirs: Path, start: int, length: int) -> None:
    """Append `length` bytes from `start` on, or fewer if there are no more."""
    with ours.open("rb") as reading, theirs.open("ab") as writing:
        reading.seek(start)
        while chunk := reading.read(min(length, _CHUNK)):
            writing.write(chunk)
            length -= len(chunk)
        writing.flush()
        os.fsync(writing.fileno())


def _size(device: str) -> int:
    descriptor = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.lseek(descriptor, 0, os.SEEK_END)
    finally:
        os.close(descriptor)
