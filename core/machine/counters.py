# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads how much the kernel has written to each volume since it was started."""

import os
from collections.abc import Mapping

from core.machine.devices import boot_id, read_text
from core.record import Counters


def read_counters(volumes: Mapping[str, tuple[int, int]]) -> Counters:
    """The counters of `volumes` (mount point, device number) now."""
    written = ((place, _written(os.makedev(*dev))) for place, dev in sorted(volumes.items()))
    return Counters(boot_id(), tuple(written))


def _written(device: int) -> int:
    path = f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat"
    return sectors_written(read_text(path)) * 512


def sectors_written(stat: str) -> int:
    """Sectors of 512 bytes written, from a `stat` file of sysfs; 0 when there is none."""
    words = stat.split()
    return int(words[6]) if len(words) > 6 else 0
