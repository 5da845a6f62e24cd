# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a partition lies on its disk, asked of the kernel."""

import os

from core.machine.devices import read_text


def place_of(path: str) -> tuple[int, int] | None:
    """Start and size in bytes of the partition whose node is `path`; None: it is no partition."""
    folder = f"/sys/class/block/{os.path.basename(os.path.realpath(path))}"
    start, size = (read_text(f"{folder}/{name}").strip() for name in ("start", "size"))
    return (int(start) * 512, int(size) * 512) if start and size else None
