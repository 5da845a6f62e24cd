# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong with the DPSR disk becomes an error that names it and says what to do next.

A disk fails in the middle of anything: in a copy, in a mount, in a program that is run on it. Here
all of it comes by, and whether the disk is still there is asked before a person is told.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from core.errors import (
    CommandFailed,
    DiskGone,
    ReadFailed,
    StepFailed,
    ToolError,
    WriteFailed,
)
from core.errors.system import OF_A_DISK, reason_of

NEXT: Final = (
    "Look at `dmesg`, the cable and `smartctl -a {disk}`, then run the same command again. If that "
    "fails, too, replace the disk and make a new copy with `dpsr prepare`."
)
_WRITING: Final = frozenset({errno.EROFS, errno.ENOSPC})
_GIVEN_UP: Final = frozenset({"offline", "transport-offline", "deleting", "dead"})
"""What the kernel says of a disk that does not answer any more."""
_SYS: Final = Path("/sys/class/block")


@contextmanager
def named(disk: str, called: str = "") -> Iterator[None]:
    """Whatever ends the block because `disk` fails is told as that.

    `called`: how people know it. Raises DiskGone, ReadFailed, WriteFailed, and what the block does.
    """
    before = presence(disk)
    try:
        yield
    except (ToolError, OSError) as reason:
        told = _explain(reason, disk, called, gone=presence(disk) != before)
        if told is None:
            raise
        told.disk_holds = getattr(reason, "disk_holds", "")
        raise told from reason


def presence(disk: str, sys: Path = _SYS) -> str:
    """Something that changes when a disk goes away, or gives up; empty: it is not there."""
    folder = sys / os.path.basename(os.path.realpath(disk))
    if not folder.exists():
        return disk if os.path.isfile(disk) else ""
    # Another disk may get the name of one that was pulled out; kernels count them.
    if _read(folder / "device/state") in _GIVEN_UP or _read(folder / "size") in {"", "0"}:
        return ""
    return f"{folder.resolve()} {_read(folder / 'diskseq')}"


def _explain(
    reason: ToolError | OSError, disk: str, called: str, *, gone: bool
) -> ToolError | None:
    """What is told instead of `reason`; None: it says enough, with the right hint from now on."""
    if gone and isinstance(reason, StepFailed | OSError):
        name = f"{disk} ({called})" if called else disk
        return DiskGone(f"The DPSR disk {name} went away in the middle: {reason}")
    if isinstance(reason, OSError):
        if reason.errno not in OF_A_DISK:
            return None
        kind = WriteFailed if reason.errno in _WRITING else ReadFailed
        where = reason.filename or disk
        return kind(f"{where} cannot be used: {reason_of(reason)}.", NEXT.format(disk=disk))
    if isinstance(reason, ReadFailed | WriteFailed | CommandFailed) and disk in str(reason):
        reason.hint = NEXT.format(disk=disk)
    return None


def _read(path: Path) -> str:
    try:
        return path.read_text("ascii").strip()
    except OSError:
        return ""
