# SPDX-License-Identifier: GPL-3.0-or-later
"""Files whose content changes from below: GRUB writes its environment block past the file system.

It knows the sectors of that file and nothing of inodes, so no time stamp tells.
"""

import os
from pathlib import Path
from typing import Final

from builder.change.used import file_extents
from core.model.blockset import EMPTY, BlockSet

_HEAD: Final = b"# GRUB Environment Block\n"
_SIZE: Final = 1024
_FOLDERS: Final = ("boot/grub", "boot/grub2", "grub", "grub2")


def written_by_grub(mountpoint: str) -> BlockSet:
    """Where GRUB may have written on the file system mounted at `mountpoint`, on its own device."""
    found = EMPTY
    dev = os.stat(mountpoint).st_dev
    for folder in _FOLDERS:
        for path in sorted(Path(mountpoint, folder).glob("*")):
            if _is_environment(path) and path.stat().st_dev == dev:
                found = found.union(file_extents(str(path)))
    return found


def _is_environment(path: Path) -> bool:
    if path.is_symlink() or not path.is_file() or path.stat().st_size != _SIZE:
        return False
    with path.open("rb") as stream:
        return stream.read(len(_HEAD)) == _HEAD
