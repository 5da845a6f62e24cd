# SPDX-License-Identifier: GPL-3.0-or-later
"""From the rescue system into the copy, by the first way that works.

kexec: the copy's own kernel with its own arguments. Else this kernel goes on with the copy's root
file system, where that has the modules. Else the machine restarts, from the disk that it came
from: after a one-time choice in the firmware's menu a plain restart would end on the dead primary.
"""

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from core.errors import StepFailed, ToolError
from core.model.state import State
from core.namespace import mounted
from core.run import run
from core.screen import Screen
from grub import envblock
from grub.state import write_state
from recovery import bootentry, firmware, kexec
from recovery.bootentry import BootEntry

_READ_ONLY: Final = ("ro", "noload")
"""Nobody may write to a slot before its own system does."""

GOES_ON: Final = "The copy goes on with the kernel of the rescue system."
RESTARTS: Final = "The machine restarts now, and starts the copy then."


def start_copy(
    disk: str,
    state_at: int,
    state: State,
    slots: Iterable[str],
    screen: Screen,
    *,
    only_restart: bool = False,
) -> bool:
    """Start the copy. `slots`: devices of its slots. `only_restart`: by none of the other ways.

    Returns True when its root file system is mounted at $rootmnt and the initrd is to go on from
    there. Raises StepFailed: there is nothing that could be started.
    """
    by_uuid = {uuid_of(slot): slot for slot in slots}
    boot = by_uuid.get(state.slot)
    if boot is None:
        raise StepFailed(f"The file system {state.slot} of the copy was not found.")
    # From now on it may be written to: the next update must know.
    write_state(disk, state_at, replace(state, booted=True))
    with mounted(boot, "boot", *_READ_ONLY, fstype="ext4") as folder:
        entry = chosen(folder)
        screen.step(f"Starting the copy: {entry.title}")
        loaded = not only_restart and _load(folder, entry, screen)
    if loaded:
        try:
            kexec.go()
        except OSError as reason:
            screen.note(f"It did not start ({reason}). Trying another way.")
    root = by_uuid.get(entry.root)
    if root is not None and not only_restart and _goes_on(root):
        screen.note(GOES_ON)
        return True
    screen.note(RESTARTS)
    restart()
    return False


def chosen(folder: Path) -> BootEntry:
    """What GRUB would start from the boot file system at `folder`. Raises StepFailed."""
    for menu in (folder / "boot/grub", folder / "grub"):
        if (menu / "grub.cfg").is_file():
            saved = ""
            with suppress(OSError, ValueError):
                saved = dict(envblock.decode((menu / "grubenv").read_bytes())).get(
                    "saved_entry", ""
                )
            text = (menu / "grub.cfg").read_text("utf-8", "replace")
            if (entry := bootentry.default(text, saved)) is not None:
                return entry
    raise StepFailed("The copy's boot menu names no kernel.")


def uuid_of(device: str) -> str:
    """UUID of the file system on `device`; empty when there is none."""
    return run("blkid", "-p", "-o", "value", "-s", "UUID", device, ok=(0, 2)).strip()


def restart() -> None:
    """Restart the machine from the disk that it was started from."""
    with suppress(OSError):
        firmware.start_here_again()
    kexec.restart()


def _load(folder: Path, entry: BootEntry, screen: Screen) -> bool:
    inside = [folder / path.lstrip("/") for path in (entry.kernel, *entry.initrds)]
    try:
        kexec.load(inside[0], inside[1:], entry.arguments)
    except OSError as reason:
        screen.note(f"Its kernel cannot be started from here ({reason}). Trying another way.")
        return False
    return True


def _goes_on(root: str) -> bool:
    """Mount the copy's root file system for the initrd, if it has the modules of this kernel."""
    place = os.environ.get("ROOTMNT", "/root")
    with suppress(ToolError):
        run("mount", "-t", "ext4", "-o", "ro", root, place)
        if Path(place, "lib/modules", os.uname().release).is_dir():
            return True
        run("umount", place)
    return False
