# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps the DPSR disks out of the system's sight between two runs, and brings them back for one.

A hidden disk is detached from the kernel, which then knows nothing of it, or, where that would do
harm to something else, read-only and ignored by udev. The udev rule has a disk ignored as soon as
it appears, and `hide_once_free` do the rest.
"""

import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from builder import detach
from builder.fixup.overlay import clean_leftovers
from builder.status import copy_we_run_from
from core import hidden, settings
from core.errors import AlreadyRunning, CopyUnreachable, DiskInUse, DiskMounted, ToolError
from core.files import HIDING, LOCK, lock
from core.machine.attached import Way
from core.machine.find import fitting
from core.machine.look import look
from core.machine.udev import is_ignored
from core.model.machine import Disk, Machine
from core.screen import Screen
from core.settings import BackupSet
from core.signals import deferred

_BLOCK: Final = Path("/sys/class/block")
_TRIES: Final = 60
LEFT: Final = "The DPSR disk stays in sight of this system: {reason}"
TWICE: Final = Way("none", why="it is there more than once, by several paths")


@contextmanager
def shown(screen: Screen, name: str | None = None, *, leave: bool = False) -> Iterator[None]:
    """Within, the DPSR disk of the set `name` is there and can be written; None: those of all sets.

    Afterwards it is hidden again, however the block ends; with `leave` only when it ends badly. To
    be called with the lock held. Does nothing on a copy. Raises CopyUnreachable, BadSettings.
    """
    wanted = [each for each in settings.load().sets if name in {None, each.name}]
    if os.geteuid() != 0 or (wanted and copy_we_run_from(look()) is not None):
        yield
        return
    done = False
    try:
        for known in wanted:
            try:
                _show(known)
            except CopyUnreachable as reason:
                if name is not None:
                    raise
                screen.warn(str(reason))  # it may be another disk that is wanted
        yield
        done = True
    finally:
        if not (done and leave):
            with deferred():
                _afterwards(screen, name)


def hide() -> dict[str, Way]:
    """Hide the disks now, and end `reveal`; returns how, by set: those that were in sight.

    None of them where the settings want them in sight. To be called with the lock held. Raises
    DiskMounted, DiskInUse, HideFailed: the others are hidden all the same.
    """
    chosen = settings.load()
    hidden.REVEALED.unlink(missing_ok=True)
    hidden.write_list(chosen.sets if chosen.hide else ())
    clean_leftovers()
    machine = look()
    if copy_we_run_from(machine) is not None:
        return {}
    done: dict[str, Way] = {}
    failed: list[ToolError] = []
    for known in chosen.sets:
        try:
            if not chosen.hide:
                _in_sight(machine, known)
            elif (way := _hide(machine, known)) is not None:
                done[known.name] = way
        except ToolError as reason:
            failed.append(reason)
    if failed:
        raise failed[0]
    return done


def reveal(name: str, seconds: float) -> Disk:
    """Bring the disk back for so long, read-only; `hide` ends it. Raises CopyUnreachable.

    To be called with the lock held.
    """
    known = settings.load().named(name)
    hidden.REVEALED.parent.mkdir(parents=True, exist_ok=True)
    # Before the disk is there: the udev rule makes it read-only as soon as it appears.
    hidden.REVEALED.write_text(f"{time.time() + seconds:.0f}\n", "ascii")
    try:
        disk = _show(known, read_only=True)
        if disk is not None and is_ignored(disk.dev):
            detach.ask_udev(disk)
    except BaseException:
        hidden.REVEALED.unlink(missing_ok=True)
        raise
    if disk is None:
        hidden.REVEALED.unlink(missing_ok=True)
        called = known.serial or known.wwn
        raise CopyUnreachable(f"The DPSR disk ({known.model}, {called}) is not there.")
    return disk


def unhide(known: BackupSet, others: Iterable[BackupSet], screen: Screen) -> None:
    """End the hiding of one disk for good; it need not be there.

    To be called with the lock held.
    """
    hidden.write_list(others)
    try:
        disk = _show(known)
        if disk is not None and is_ignored(disk.dev):
            detach.ask_udev(disk)
    except ToolError as reason:
        screen.warn(str(reason))
    hidden.forget_away(known.name)


def hide_once_free(name: str) -> None:
    """Hide the disks once no dpsr works on them; `name`: what the kernel calls one that appeared.

    Run by dpsr-hide@.service. Ends when that disk is away, whoever has detached it.
    """
    tries = 0
    while (_BLOCK / name).exists():
        try:
            with lock(LOCK, HIDING):
                if hidden.revealed_until() < time.time():
                    hide()
                return
        except AlreadyRunning:
            time.sleep(1)
        except (ToolError, OSError) as reason:
            # A program that a killed run had started may hold the disk a little longer.
            tries += 1
            if isinstance(reason, DiskInUse | DiskMounted) and tries < _TRIES:
                time.sleep(1)
                continue
            sys.stderr.write(f"{LEFT.format(reason=reason)}\n")  # the journal has it
            return


def _afterwards(screen: Screen, name: str | None) -> None:
    """Hide again, or leave it as `reveal` wants it; what goes wrong is a warning."""
    try:
        chosen = settings.load()
        hidden.write_list(chosen.sets if chosen.hide else ())
        revealed = hidden.revealed_until() > time.time()
        sets = [each for each in chosen.sets if name in {None, each.name}]
        if not sets:
            return
        machine = look()
        for known in sets:
            try:
                _put_away(machine, known, revealed=revealed, hides=chosen.hide)
            except (ToolError, OSError) as reason:
                screen.warn(LEFT.format(reason=reason))
    except (ToolError, OSError) as reason:
        screen.warn(LEFT.format(reason=reason))


def _put_away(machine: Machine, known: BackupSet, *, revealed: bool, hides: bool) -> None:
    if revealed:
        for disk in _all(machine, known):
            detach.set_read_only(disk, wanted=True)
    elif hides:
        _hide(machine, known)
    else:
        _in_sight(machine, known)


def _show(known: BackupSet, *, read_only: bool = False) -> Disk | None:
    """Bring a disk back, if need be, and have it take writes, or not; None: nobody knows where.

    Raises CopyUnreachable.
    """
    found = _all(look(), known)
    if not found:
        gone = hidden.read_away(known)
        if gone is None:
            return None
        found = (detach.bring_back(known, gone),)
    hidden.came_back(known.name)
    for disk in found:
        if disk.read_only != read_only:
            detach.set_read_only(disk, wanted=read_only)
    return found[0]


def _hide(machine: Machine, known: BackupSet) -> Way | None:
    """None: it is not in sight. Raises DiskMounted, DiskInUse, HideFailed."""
    found = _all(machine, known)
    if len(found) == 1:
        return detach.detach(machine, found[0], known)
    for disk in found:
        detach.ignore(disk)
    return TWICE if found else None


def _in_sight(machine: Machine, known: BackupSet) -> None:
    """Of a disk that is not to be hidden any more."""
    for disk in _all(machine, known):
        if is_ignored(disk.dev):
            detach.ask_udev(disk)


def _all(machine: Machine, known: BackupSet) -> tuple[Disk, ...]:
    """Not one without its table: somebody may have put a new disk in its place."""
    found = fitting(machine, known.serial, known.wwn, known.guid)
    return tuple(disk for disk in found if disk.guid == known.guid.lower())
