# SPDX-License-Identifier: GPL-3.0-or-later
"""Loop devices with file systems for the device tests, and the oracle that compares two of them.

The oracle knows from dumpe2fs what is in use and compares block by block: it shares no code with
the copier, the tracker or their map of used blocks.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np

from core.model.live import Source
from core.run import run
from tests.support import disk_image
from tests.support.disk_image import Part

MIB: Final = 1 << 20


def image(path: Path, size: int) -> Path:
    """A sparse file."""
    with path.open("wb") as stream:
        stream.truncate(size)
    return path


@contextmanager
def loop(path: Path, *options: str) -> Iterator[str]:
    """A loop device of the file `path`."""
    device = run("losetup", "--find", "--show", *options, str(path)).strip()
    try:
        yield device
    finally:
        run("losetup", "--detach", device)


@contextmanager
def mounted(device: str, folder: Path, *options: str) -> Iterator[Path]:
    """The file system of `device`, mounted at `folder`."""
    folder.mkdir(exist_ok=True)
    run("mount", *options, device, str(folder))
    try:
        yield folder
    finally:
        _unmount(folder)


def _unmount(folder: Path) -> None:
    for _ in range(600):  # a writer that was killed may need a moment to let go
        run("umount", str(folder), ok=(0, 32))
        if not os.path.ismount(folder):
            return
        time.sleep(0.1)
    raise AssertionError(f"{folder} cannot be unmounted")


def source(name: str, device: str, folder: Path, target: str) -> Source:
    """A whole loop device (or other device) as a volume."""
    number = os.stat(device).st_rdev
    return Source(
        name=name,
        mountpoint=str(folder),
        device=device,
        tracked=(os.major(number), os.minor(number)),
        offset=0,
        size=int(run("blockdev", "--getsize64", device)),
        target=target,
    )


def whole(path: Path) -> Part:
    """A whole image as one partition."""
    return Part(0, 0, path.stat().st_size, "")


def used_blocks(path: Path) -> tuple[int, np.ndarray[tuple[int], np.dtype[np.bool_]]]:
    """Block size, and for each block of an ext4 image whether it is in use, by dumpe2fs."""
    size, count, free = disk_image.free_blocks(path, whole(path))
    used = np.ones(count, dtype=np.bool_)
    for start, end in free:
        used[start:end] = False
    if size == 1024:
        used[0] = True  # before the first block group: the boot sector
    return size, used


def differing(left: Path, right: Path) -> tuple[int, list[int]]:
    """How many blocks of the ext4 image `left` are in use, and which of them `right` has not.

    As byte offsets of the blocks.
    """
    size, used = used_blocks(left)
    wrong = []
    with left.open("rb") as one, right.open("rb") as other:
        per_chunk = 4 * MIB // size
        for first in range(0, len(used), per_chunk):
            here = used[first : first + per_chunk]
            if not here.any():
                continue
            pieces = []
            for stream in (one, other):
                stream.seek(first * size)
                piece = np.frombuffer(stream.read(len(here) * size), np.uint8)
                pieces.append(piece.reshape(-1, size))
            unequal = (pieces[0] != pieces[1]).any(axis=1) & here
            wrong += [int(first + at) * size for at in np.flatnonzero(unequal)]
    return int(used.sum()), wrong


def superblocks(path: Path) -> list[int]:
    """Byte offsets of the blocks with a superblock, main one and backups, by dumpe2fs."""
    said = run("dumpe2fs", str(path))
    size = int(disk_image._one(r"^Block size:\s+(\d+)$", said))
    numbers = [
        int(word.rstrip(","))
        for line in said.splitlines()
        if "superblock at" in line
        for word in line.partition("superblock at ")[2].split()[:1]
    ]
    return [number * size for number in numbers]
