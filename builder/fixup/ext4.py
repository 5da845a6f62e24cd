# SPDX-License-Identifier: GPL-3.0-or-later
"""How an ext2, ext3 or ext4 file system is mounted for the fix-ups, and made ready for them."""

import os
from collections.abc import Iterable
from typing import Final

from core.namespace import mounted

TYPES: Final = frozenset({"ext2", "ext3", "ext4"})

MOUNT_OPTIONS: Final = (
    "rw", "noatime", "nodev", "noexec", "nosuid", "noinit_itable", "errors=remount-ro",
)  # fmt: skip
"""noinit_itable: no kernel thread zeroes inode tables, megabytes of them, while we edit.
errors=remount-ro: a superblock may say `panic`, and an overlay that runs full is an error."""


def write_blocks(device: str, blocks: Iterable[tuple[int, bytes]]) -> None:
    """Write blocks of `(offset, content)` and make them durable."""
    descriptor = os.open(device, os.O_WRONLY | os.O_CLOEXEC)
    try:
        for offset, content in blocks:
            os.pwrite(descriptor, content, offset)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def settle(device: str, name: str, fstype: str) -> None:
    """Let the kernel replay the journal and release orphans, as at any mount."""
    with mounted(device, name, *MOUNT_OPTIONS, fstype=fstype):
        pass
