# SPDX-License-Identifier: GPL-3.0-or-later
"""The rescue system's program: repairs the copy by itself, then starts it.

GRUB starts it when an update or a rollback was interrupted. It runs in an initrd, alone, with no
one to ask; whatever it does can be cut off and done again. Exit status 0: the initrd goes on with
the copy's root file system, which is mounted. Else a person has to look.
"""

import os
import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from builder.vault.recovery import recover
from core.errors import StepFailed, ToolError
from core.model.copy import partition_path
from core.model.state import State
from core.namespace import mounted
from core.screen import Screen
from grub import gpt
from grub.state import locate, read_state
from recovery.consoles import ConsoleScreen
from recovery.handover import start_copy

_PATIENCE: Final = 90.0
"""Seconds that a slow disk gets to appear."""
_CONTROL: Final = "dpsr-control"
_VAULT: Final = "dpsr-vault"
_SLOT: Final = "dpsr-slot-"

HEAD: Final = "DPSR rescue system"
REPAIRS: Final = (
    "The last backup was interrupted. It is being undone now, by itself. Please wait.\n"
    "  You need not do anything. Should the power fail, just switch the machine on again."
)
GOES_ON: Final = (
    "The way back to an older backup was interrupted. It is gone on with now, by itself. Please "
    "wait.\n  You need not do anything. Should the power fail, just switch the machine on again."
)
REPAIRED: Final = "Done: the copy is complete again, as it was at {taken}."
NOTHING: Final = "There is nothing to repair on this disk: it holds the copy of {taken}."
NO_COPY: Final = (
    "The first copy on this disk was never completed: there is nothing to start. Start the "
    "machine from its own disk and run there: dpsr prepare"
)
STUCK: Final = (
    "The copy could NOT be repaired by itself. Nothing more was changed. Take a photo of this "
    "screen for whoever runs this machine. If its own disk still works, start from that one and "
    "run there: dpsr update"
)


def main() -> int:
    """See above."""
    screen = ConsoleScreen()
    screen.step(HEAD)
    try:
        disk = wait_for_disk(asked_for(Path("/proc/cmdline").read_text("utf-8")), screen)
        return 0 if carry_on(disk, screen) else 1
    except (ToolError, OSError) as reason:
        screen.warn(str(reason))
        screen.warn(STUCK)
        return 1


def asked_for(line: str) -> str:
    """The GUID of the DPSR disk, from the kernel's command line; empty: none is named."""
    found = re.search(r"(?:^|\s)dpsr\.disk=([0-9A-Fa-f-]{36})(?:\s|$)", line)
    return found[1].lower() if found else ""


def carry_on(disk: str, screen: Screen) -> bool:
    """Do what the state of `disk` calls for; True: the initrd is to go on with the copy."""
    parts = gpt.named(disk)
    with mounted(partition_path(disk, parts[_CONTROL]), "control", "ro", fstype="vfat") as control:
        state_at = locate(control)
    state = read_state(disk, state_at)
    if state.state == "building":
        screen.warn(NO_COPY)
        return False
    if state.state == "clean":
        screen.step(NOTHING.format(taken=_when(state)))
        return False
    screen.step(GOES_ON if state.state == "rolling-back" else REPAIRS)
    state = repair(disk, state_at, parts[_VAULT], screen)
    slots = [
        partition_path(disk, number) for name, number in parts.items() if name.startswith(_SLOT)
    ]
    return start_copy(disk, state_at, state, slots, screen)


def repair(disk: str, state_at: int, vault: int, screen: Screen) -> State:
    """Take back what was interrupted; the state sector says `clean` afterwards."""
    state = recover(
        disk,
        state_at,
        partition_path(disk, vault),
        lambda number: partition_path(disk, number),
        screen,
    )
    screen.step(REPAIRED.format(taken=_when(state)))
    return state


def wait_for_disk(guid: str, screen: Screen) -> str:
    """Device of the DPSR disk with this GUID, once it has appeared. Raises StepFailed."""
    deadline = time.monotonic() + _PATIENCE
    said = False
    while True:
        found = [disk for disk in _disks() if _is_ours(disk, guid)]
        if len(found) == 1:
            return found[0]
        if time.monotonic() > deadline:
            break
        if not said:
            screen.note("Waiting for the DPSR disk")
            said = True
        time.sleep(0.5)
    raise StepFailed(
        f"{len(found)} disks look like the DPSR disk {guid}." if found
        else f"The DPSR disk {guid} does not appear. Look at its cable and its bay."
    )  # fmt: skip


def _when(state: State) -> str:
    """The point in time of what the disk holds, as a person reads it; the clock may be wrong."""
    return f"{datetime.fromisoformat(state.taken).astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _disks() -> list[str]:
    return [
        f"/dev/{name}"
        for name in sorted(os.listdir("/sys/block"))
        if not name.startswith(("loop", "ram", "zram", "sr", "fd", "dm-", "md"))
    ]


def _is_ours(disk: str, guid: str) -> bool:
    """Whether the disk and its partitions are there, and it is the one that was asked for."""
    try:
        parts = gpt.named(disk)
        if {_CONTROL, _VAULT} - set(parts) or guid not in {"", gpt.guid_of(disk)}:
            return False
        return all(os.path.exists(partition_path(disk, number)) for number in parts.values())
    except OSError:
        return False
