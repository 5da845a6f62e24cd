# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs in a guest: keeps the slot of its ESP up to date on a second disk, through an undo log.

`update` without all else. Run as `python3 esp_in_guest.py SERIAL` to make the slot, with `MIB`
behind it to put two files of that many MiB onto the ESP and bring them over, the last time with
`back` to take that back again. What was seen is one JSON document on standard output.
"""

import gc
import hashlib
import json
import os
import resource
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from builder import slots
from builder.copying.undo import Undo
from builder.fixup.fix import FixedSlot, fix_up
from builder.partition import make_file_systems, partition
from builder.plan.identity import Fresh
from builder.plan.layout import make_plan
from builder.plan.wish import Wish
from builder.vault.replay import replay
from builder.vault.undoformat import Header
from builder.vault.undolog import LogFile
from builder.vault.undoread import UndoLog
from core.machine.find import find_disk
from core.machine.look import look
from core.model.blockset import BlockSet
from core.model.copy import Plan
from core.model.plain import from_plain, to_plain
from core.model.state import State
from core.namespace import go_private
from core.screen import PlainScreen
from core.signals import unwinding

ESP: Final = "/boot/efi"
KEPT: Final = Path("/root/esp-plan.json")
LOG: Final = Path("/root/undo")
SCREEN: Final = PlainScreen()


def main(serial: str, mib: int, *, back: bool) -> None:
    """Do it, and say what was seen."""
    go_private()
    if not mib:
        plan = made(serial)
        fix_up(plan, {}, SCREEN)
        say(plan)
        return
    for number in range(2):
        with Path(ESP, f"EFI/big-{number}").open("wb") as stream:
            stream.writelines(os.urandom(1 << 20) for _ in range(mib))
            os.fsync(stream.fileno())
    plan = from_plain(Plan, json.loads(KEPT.read_text()))
    before = digest(plan)
    fixed = update(plan)
    seen: dict[str, Any] = {
        "data": [sum(len(block) for _, block in one.data) for one in fixed],
        "identity": [sum(len(block) for _, block in one.identity) for one in fixed],
        "logged": LOG.stat().st_size,
        "again": [len(one.data) + len(one.identity) for one in update(plan, "again")],
    }
    if back:
        with UndoLog(LOG) as log:
            replay([log], plan.slot_path, SCREEN, sealed=True)
        seen["as_before"] = digest(plan) == before
    say(plan, **seen)


def made(serial: str) -> Plan:
    """The disk laid out, and a plan for its ESP alone."""
    fstab = Path("/etc/fstab").read_text("utf-8")
    plan = make_plan(look(), find_disk(look(), serial), Wish(), fstab, Fresh())
    partition(plan)
    gc.collect()  # pyparted's objects, left to the interpreter's end, may divide by zero
    make_file_systems(plan)
    places = tuple(volume.mountpoint for volume in plan.volumes)
    plan = replace(plan, resting=tuple(place for place in places if place != ESP))
    KEPT.write_text(json.dumps(to_plain(plan)))
    return plan


def update(plan: Plan, name: str = "") -> tuple[FixedSlot, ...]:
    """Bring the slot up to date, its undo log beside it."""
    before = State("clean", 1, "2026-01-01T00:00:00+00:00", "0" * 32, slot="1234-ABCD")
    known = slots.log_slots(plan)
    path = Path(f"{LOG}{name}")
    path.unlink(missing_ok=True)
    header = Header("1" * 32, "system", plan.disk_guid, before, 2, "", known)
    log = LogFile(path, header, lambda: False)
    paths = [(slot, plan.slot_path(slot.number)) for slot in known]
    identity = {slot.name: BlockSet.of([(0, 4096)]) for slot in known}
    firsts = slots.fat_identities(plan)
    with Undo(log, paths, identity) as undo:
        fixed = fix_up(plan, firsts, SCREEN, undo.writers)
        slots.write_fixups(fixed, undo.writers, slots.paths_of(plan))
        assert not undo.bare
    log.seal()
    log.close()
    return fixed


def digest(plan: Plan) -> str:
    """Of the whole slot."""
    state = hashlib.sha256()
    with Path(slot_of(plan)).open("rb") as stream:
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        while chunk := stream.read(1 << 20):
            state.update(chunk)
    return state.hexdigest()


def slot_of(plan: Plan) -> str:
    """Its device."""
    return next(iter(slots.paths_of(plan).values()))


def say(plan: Plan, **seen: Any) -> None:
    """Print it."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sys.stdout.write(json.dumps({"slot": slot_of(plan), "peak_kib": peak, **seen}))


if __name__ == "__main__":
    with unwinding():
        main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0, back="back" in sys.argv)
