# SPDX-License-Identifier: GPL-3.0-or-later
"""Holds a whole disk for one job, so that neither udev nor another program touches it meanwhile."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from core.errors import DiskInUse

_PATIENCE: Final = 20.0
"""Seconds."""


@contextmanager
def exclusively(disk: str) -> Iterator[int]:
    """Open `disk` for reading and writing, refusing it when anybody uses it; yield the descriptor.

    O_EXCL on a block device fails while it, or a partition of it, is mounted, swap, or a member
    of md, LVM or dm. Raises DiskInUse.
    """
    try:
        descriptor = os.open(disk, os.O_RDWR | os.O_EXCL | os.O_CLOEXEC)
    except OSError as reason:
        raise DiskInUse(f"{disk} ({reason.strerror})") from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def locked(disk: str) -> Iterator[None]:
    """Hold udev's lock on a whole disk: it probes neither the disk nor its partitions meanwhile.

    So a slot is never seen half made, and no link under /dev/disk points to it before it has an
    identity of its own. <https://systemd.io/BLOCK_DEVICE_LOCKING/>. Raises DiskInUse.
    """
    descriptor = os.open(disk, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _wait_for_lock(descriptor, disk)
        yield
    finally:
        os.close(descriptor)


def _wait_for_lock(descriptor: int, disk: str) -> None:
    # udev itself holds the lock, shared, for the moments in which it probes.
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise DiskInUse(disk) from None
            time.sleep(0.05)
