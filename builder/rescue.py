# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps the rescue system on the control partition, where GRUB finds it.

Each one has a folder of its own, `dpsr/r-NAME`, and the state block says which counts: another
takes its place by the one sector, when all of it is on the disk. That happens before an update
begins, so that whatever an update leaves behind can be read by the rescue system beside it.
"""

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Final

from builder.check import sums
from builder.control_mount import control_at
from builder.target import Held, Target
from core import points
from core.errors import RescueFailed, ToolError
from core.files import sync_folder
from core.screen import Screen, human
from grub.state import write_state
from images import rescue as images

_FOLDER: Final = "dpsr/r-"
_SPARE: Final = 4 << 20
"""Bytes that stay free on the control partition."""


def refresh(target: Target, held: Held, screen: Screen) -> Held:
    """Give a disk in state `clean` the rescue system of this machine as it is now.

    What goes wrong is a warning: the one before is still there then. Raises StateUnreadable.
    """
    try:
        wanted = images.name_of(images.own_kernel())
        if wanted == held.state.rescue:
            return held
        screen.step("Renewing the rescue system")
        with control_at(target.control, screen) as control:
            sweep(control, held.state.rescue)  # what an interrupted run left
            put(control)
    except (ToolError, OSError) as reason:
        screen.warn(f"The rescue system on the DPSR disk is not that of today: {reason}")
        return held
    points.reach("rescue-put")
    state = held.state.with_rescue(wanted)
    write_state(target.disk.path, target.known.state_offset, state)
    points.reach("rescue-counts")
    try:
        with control_at(target.control, screen) as control:
            sweep(control, wanted)
    except (ToolError, OSError) as reason:
        screen.warn(f"The rescue system before could not be removed: {reason}")
    return replace(held, state=state)


def put_or_warn(control: Path, screen: Screen) -> str:
    """`put` for a first copy: the disk serves without one, too. Returns its name, or nothing."""
    try:
        screen.note("With a rescue system, made from this machine's own kernel")
        return put(control)
    except (ToolError, OSError) as reason:
        screen.warn(
            f"The DPSR disk has no rescue system: {reason} An interrupted update is taken back "
            "by this machine's own system only."
        )
        return ""


def put(control: Path) -> str:
    """Make the rescue system and put it on the mounted control partition; returns its name.

    It counts only once the state block names it. Raises RescueFailed, OSError.
    """
    parts = images.parts()
    folder = control / f"{_FOLDER}{parts.name}"
    free = os.statvfs(control)
    if parts.size + _SPARE > free.f_bavail * free.f_frsize + _size(folder):
        raise RescueFailed(
            f"It takes {human(parts.size)}, and the control partition has "
            f"{human(free.f_bavail * free.f_frsize)} left."
        )
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    images.copy_parts(parts, folder)
    sums.keep_folder(folder)
    for each in (folder.parent, control):
        sync_folder(each)
    return parts.name


def sweep(control: Path, name: str) -> None:
    """Remove every rescue system but `name` from the mounted control partition."""
    for folder in sorted(control.glob(f"{_FOLDER}*")):
        if folder.name != f"{Path(_FOLDER).name}{name}":
            shutil.rmtree(folder)
            sync_folder(folder.parent)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*"))
