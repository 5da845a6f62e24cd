# SPDX-License-Identifier: GPL-3.0-or-later
"""What lies in given blocks of a FAT file system: files by name.

The kernel is asked where each file lies (FIBMAP, Linux' Documentation/filesystems/fiemap.rst names
it as the older way; vfat has no other).
"""

import fcntl
import os
import struct
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

from builder.change.compare import GRAIN
from core.errors import ToolError
from core.namespace import mounted

_FIBMAP: Final = 1
_FIGETBSZ: Final = 2
OTHER: Final = "a folder, the FAT, or free space"


def owners(device: str, places: Collection[int]) -> dict[int, tuple[str, ...]]:
    """What the 4 KiB at `places` of the file system on `device` belong to; as `names.owners`.

    Nothing is told where it cannot be mounted, or a file cannot be asked: then it is damaged in
    such a way that no name could be trusted.
    """
    wanted = set(places)
    found: dict[int, list[str]] = {place: [] for place in wanted}
    try:
        with mounted(device, "fat", "ro", "noatime", fstype="vfat") as folder:
            for top, _, files in os.walk(folder, onerror=_raise):
                for name in sorted(files):
                    path = Path(top, name)
                    for place in _grains(path).intersection(wanted):
                        found[place].append(f"/{path.relative_to(folder)}")
    except (ToolError, OSError):
        return {}
    return {place: tuple(known) or (OTHER,) for place, known in found.items()}


def _grains(path: Path) -> set[int]:
    """Where a file lies, as the beginnings of blocks of 4 KiB. Raises OSError."""
    with path.open("rb") as stream:
        size = struct.unpack("i", fcntl.ioctl(stream, _FIGETBSZ, struct.pack("i", 0)))[0]
        count = -(-os.fstat(stream.fileno()).st_size // size)
        return {block * size // GRAIN * GRAIN for block in _blocks(stream.fileno(), count)}


def _blocks(file: int, count: int) -> Iterator[int]:
    for number in range(count):
        (block,) = struct.unpack("i", fcntl.ioctl(file, _FIBMAP, struct.pack("i", number)))
        if block:
            yield block


def _raise(error: OSError) -> None:
    raise error
