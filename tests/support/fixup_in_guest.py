# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs in a guest: copies its file systems to a second disk and gives the copy its identity.

`prepare` without boot loader, control partition and manifest; one JSON document with what was
seen on standard output. Run as `python3 fixup_in_guest.py SERIAL`.
"""

import json
import os
import resource
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from builder import slots
from builder.fixup.fix import fix_up
from builder.partition import make_file_systems, partition
from builder.plan.identity import Fresh
from builder.plan.layout import make_plan
from builder.plan.wish import Wish
from builder.still.live import LiveOptions, copy_live
from core.machine.find import find_disk
from core.machine.look import look
from core.model.plain import to_plain
from core.namespace import go_private
from core.run import run
from core.screen import PlainScreen
from core.signals import unwinding


def main(serial: str) -> None:
    """Do it, and say what was seen."""
    go_private()
    screen = PlainScreen()
    machine = look()
    fstab = Path("/etc/fstab").read_text("utf-8")
    plan = make_plan(machine, find_disk(machine, serial), Wish(), fstab, Fresh())
    partition(plan)
    make_file_systems(plan)
    instant = copy_live(slots.sources(plan), LiveOptions(), screen)
    begun = time.monotonic()
    links = _by_uuid()
    before = _signatures(plan.disk)
    fixed = fix_up(plan, instant.identity, screen)
    seconds = time.monotonic() - begun
    untouched = before == _signatures(plan.disk)
    with ExitStack() as stack:
        paths = slots.paths_of(plan)
        slots.write_fixups(fixed, slots.direct_writers(paths, stack), paths)
    sys.stdout.write(
        json.dumps(
            {
                "pairs": to_plain(plan.pairs),
                "paths": {slot.name: plan.slot_path(slot.number) for slot in plan.slots},
                "seconds": seconds,
                "sizes": {
                    one.name: [
                        sum(len(b) for _, b in one.data),
                        sum(len(b) for _, b in one.identity),
                    ]
                    for one in fixed
                },
                "edited": {one.name: one.edited for one in fixed},
                "links_before": links,
                "links_after": _by_uuid(),
                "origin_untouched": untouched,
                "peak_kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
                "left": run("dmsetup", "ls") + run("losetup", "-a"),
                "mounts": Path("/proc/1/mountinfo").read_text("utf-8"),
            }
        )
    )


def _by_uuid() -> dict[str, str]:
    folder = Path("/dev/disk/by-uuid")
    return {path.name: os.readlink(path) for path in folder.iterdir()}


def _signatures(disk: str) -> str:
    """What blkid finds on the slots of ext4: nothing, until the fix-ups are written."""
    listed = run("lsblk", "-nrpo", "NAME,PARTLABEL", disk).splitlines()
    parts = [line.split()[0] for line in listed if line.endswith(("-root", "-boot"))]
    return "".join(run("blkid", "-p", part, ok=(0, 2)) for part in parts)


if __name__ == "__main__":
    with unwinding():
        main(sys.argv[1])
