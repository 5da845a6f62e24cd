# SPDX-License-Identifier: GPL-3.0-or-later
"""Mounts the file systems of a copy below one another, as the running copy would, unseen."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from builder.fixup import ext4
from core.namespace import RUNTIME, mounted

SCRATCH: Final = "size=192m,mode=700"
"""A folder in memory for the work on initrds; what is in it stays far below that."""


@contextmanager
def assembled(places: Iterable[tuple[str, str, str]]) -> Iterator[tuple[Path, Path]]:
    """Mount `(mountpoint, fstype, device)`; yields where `/` is, and an empty folder in memory.

    To be called in a private mount namespace.
    """
    with ExitStack() as stack:
        for mountpoint, fstype, device in sorted(places):  # outer ones sort first
            options = ("rw", "noatime") if fstype == "vfat" else ext4.MOUNT_OPTIONS
            where = f"copy{mountpoint}".rstrip("/")
            stack.enter_context(mounted(device, where, *options, fstype=fstype))
        scratch = stack.enter_context(mounted("tmpfs", "scratch", SCRATCH, fstype="tmpfs"))
        yield RUNTIME / "copy", scratch
