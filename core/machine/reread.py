# SPDX-License-Identifier: GPL-3.0-or-later
"""Has the kernel and udev read a disk's partition table once more."""

from contextlib import suppress

from core.errors import ToolError
from core.machine.devices import sysfs_name
from core.run import run


def read_table_again(disk: str) -> None:
    """For a disk whose partitions are not known, or not well.

    A disk that did not answer for a moment may have lost them, for both: udev reads the table
    again each time that somebody who could write has closed the disk. Whoever asks looks whether
    it helped.
    """
    name = sysfs_name(disk)
    with suppress(ToolError):
        run("blockdev", "--rereadpt", disk, ok=(0, 1))  # 1: some of it is in use, hence well known
        run("udevadm", "trigger", "--action=change", f"--name-match={disk}")
        run("udevadm", "settle", "--timeout=20", ok=(0, 1))
        run("udevadm", "trigger", "--action=change", f"--parent-match=/sys/class/block/{name}")
        run("udevadm", "settle", "--timeout=20", ok=(0, 1))
