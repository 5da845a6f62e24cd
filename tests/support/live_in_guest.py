# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs in a guest: copies mounted volumes live, and keeps what they are in the freeze.

`live_in_guest.py RESULT MOUNTPOINT:DISK:KEPT:SLOT...`: DISK is the device whose events show the
volume's writes, KEPT the device that gets the volume as it stands frozen, by dd.
"""

import base64
import json
import os
import sys
from pathlib import Path

from builder.still.live import LiveOptions, copy_live
from builder.still.tracker import request_based
from core import points
from core.model.live import Source
from core.run import run
from core.screen import PlainScreen


def source(mountpoint: str, disk: str, slot: str) -> Source:
    device = run("findmnt", "-no", "SOURCE", mountpoint).strip()
    number, tracked = os.stat(device).st_rdev, os.stat(disk).st_rdev
    start = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}/start")
    return Source(
        name=Path(slot).name,
        mountpoint=mountpoint,
        device=device,
        tracked=(os.major(tracked), os.minor(tracked)),
        offset=int(start.read_text()) * 512 if start.exists() and number != tracked else 0,
        size=int(run("blockdev", "--getsize64", device)),
        target=slot,
    )


def main(result: str, volumes: list[str]) -> None:
    parts = [volume.split(":") for volume in volumes]
    sources = [source(mountpoint, disk, slot) for mountpoint, disk, _, slot in parts]

    def reach(name: str) -> None:
        if name == "frozen":
            for (*_, kept, _), each in zip(parts, sources, strict=True):
                run("dd", f"if={each.device}", f"of={kept}", "bs=4M", "iflag=direct",
                    "oflag=direct", "conv=notrunc", timeout=3000)  # fmt: skip

    points.reach = reach
    options = LiveOptions(quiet_for=0.2, quiet_wait=5, max_freeze=3000)
    instant = copy_live(sources, options, PlainScreen())
    peak = Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]
    said = {
        "passes": instant.passes,
        "stall_seconds": instant.stall_seconds,
        "bytes_written": instant.bytes_written,
        "peak_kib": int(peak),
        "request_based": [request_based(each.tracked) for each in sources],
        "identity": {
            name: [(at, base64.b64encode(data).decode()) for at, data in blocks]
            for name, blocks in instant.identity.items()
        },
    }
    Path(result).write_text(json.dumps(said))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
