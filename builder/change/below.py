# SPDX-License-Identifier: GPL-3.0-or-later
"""Files whose content changes from below, past the file system, so that no time stamp tells.

GRUB writes its environment block, the kernel swap files: both know the sectors, and no inodes.
"""

import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from builder.change.used import file_extents
from core.machine.escapes import from_octal
from core.model.blockset import EMPTY, BlockSet

_HEAD: Final = b"# GRUB Environment Block\n"
_SIZE: Final = 1024
_FOLDERS: Final = ("boot/grub", "boot/grub2", "grub", "grub2")
_FSTAB: Final = Path("/etc/fstab")
_UNITS: Final = Path("/etc/systemd/system")


def written_by_grub(mountpoint: str) -> BlockSet:
    """Where GRUB may have written on the file system mounted at `mountpoint`, on its own device."""
    found = EMPTY
    dev = os.stat(mountpoint).st_dev
    for folder in _FOLDERS:
        for path in sorted(Path(mountpoint, folder).glob("*")):
            if _is_environment(path) and path.stat().st_dev == dev:
                found = found.union(file_extents(str(path)))
    return found


def swap_files(mountpoint: str) -> BlockSet:
    """Where the swap files that this machine may use lie on the file system at `mountpoint`.

    Those that it uses now are none of the copy's business; one that was used and is no longer
    looks as it did before.
    """
    found = EMPTY
    dev = os.stat(mountpoint).st_dev
    for path in named_for_swap(_text(_FSTAB), [_text(unit) for unit in _swap_units()]):
        try:
            seen = os.stat(path)
        except OSError:
            continue  # it is not there, and cannot have been used
        if stat.S_ISREG(seen.st_mode) and seen.st_dev == dev:
            found = found.union(file_extents(path))
    return found


def named_for_swap(fstab: str, units: Iterable[str]) -> tuple[str, ...]:
    """The paths that /etc/fstab and systemd's .swap units name, devices among them. Pure."""
    names = []
    for line in fstab.splitlines():
        words = line.split()
        if len(words) > 2 and words[2] == "swap":
            names.append(from_octal(words[0]))
    for unit in units:
        for line in unit.splitlines():
            key, _, value = line.partition("=")
            if key.strip() == "What":
                names.append(value.strip().replace("%%", "%"))
    return tuple(dict.fromkeys(name for name in names if name.startswith("/")))


def _swap_units() -> list[Path]:
    return [*sorted(_UNITS.glob("*.swap")), *sorted(_UNITS.glob("*.swap.d/*.conf"))]


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""


def _is_environment(path: Path) -> bool:
    if path.is_symlink() or not path.is_file() or path.stat().st_size != _SIZE:
        return False
    with path.open("rb") as stream:
        return stream.read(len(_HEAD)) == _HEAD
