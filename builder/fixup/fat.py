# SPDX-License-Identifier: GPL-3.0-or-later
"""FAT slots: the primary's ESP cannot be frozen, so its files are copied, then checked.

The slot gets a file system of its own, with its own volume id from the first sector on; later
only the files that differ are copied again.
"""

import os
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
    refresh(device, name, source, options)


def refresh(device: str, name: str, source: Path, options: tuple[str, ...]) -> None:
    """Make the files of the FAT file system on `device` those of `source`; equal ones stay.

    Raises as `fill` does; CommandFailed when `device` cannot be mounted.
    """
    how = ("noatime", *(option for option in options if option.startswith(_KEPT)))
    for _ in range(_TRIES):
        wanted = _listed(source)
        with mounted(device, name, *how, fstype="vfat") as folder:
            _copy(source, folder, wanted)
        if not _still(source, wanted):
            continue
        with mounted(device, name, "ro", *how, fstype="vfat") as folder:
            copied = {file.name: (file.size, file.digest) for file in _listed(folder)}
        if copied != {file.name: (file.size, file.digest) for file in wanted}:
            raise CopyDiffers(f"{device} does not read back what was copied from {source}.")
        return
    raise FixupFailed(
        f"The files in {source} changed {_TRIES} times while they were copied.",
        "Try again when no update of the boot loader runs.",
    )


def make(device: str, new: Identity) -> None:
    """Make an empty FAT file system with the identity `new`; always the same bytes."""
    kind = ("-F", "32") if _size(device) >= _FAT32_FROM else ()
    label = ("-n", new.label) if new.label else ()
    run("mkfs.fat", "--invariant", *kind, "-i", new.uuid.replace("-", ""), *label, device)


def _listed(root: Path) -> tuple[_File, ...]:
    return tuple(_files(root, root))


def _still(source: Path, before: tuple[_File, ...]) -> bool:
    """Whether the files of `source` are what they were."""
    try:
        return _listed(source) == before
    except FileNotFoundError:
        return False


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


def _digest(path: Path) -> str:
    import xxhash

    state = xxhash.xxh3_128()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            state.update(chunk)
    return state.hexdigest()


def _copy(source: Path, target: Path, files: tuple[_File, ...]) -> None:
    """Bring what differs into `target`, and take away what is not in `source`."""
    there = {file.name: file for file in _listed(target)}
    wanted = {file.name: file for file in files}
    # What is inside goes first.
    for name in sorted(there.keys() - wanted.keys(), reverse=True):
        path = target / name
        path.rmdir() if name.endswith("/") else path.unlink()
    for name, file in wanted.items():
        if there.get(name) != file:
            _bring(source / name, target / name, file)


def _bring(ours: Path, theirs: Path, file: _File) -> None:
    if file.name.endswith("/"):
        theirs.mkdir()
        return
    with ours.open("rb") as reading, theirs.open("wb") as writing:
        while chunk := reading.read(_CHUNK):
            writing.write(chunk)
        writing.flush()
        os.fsync(writing.fileno())
    os.utime(theirs, ns=(file.modified, file.modified))


def _size(device: str) -> int:
    descriptor = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.lseek(descriptor, 0, os.SEEK_END)
    finally:
        os.close(descriptor)
