# SPDX-License-Identifier: GPL-3.0-or-later
"""What a drill boots: the DPSR disk of this machine, another disk, or an image; and its record."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from builder.hiding import shown
from builder.target import find_target
from core import record, settings
from core.errors import ImageUnusable, NoSuchDisk
from core.files import LOCK, lock
from core.machine.find import find_disk, find_recorded
from core.machine.look import look
from core.model.machine import Disk, Machine
from core.screen import Screen
from core.settings import BackupSet, Settings
from images.drill import Outcome
from images.vm import BUSES, MAX_CHECK, Bus


@dataclass(frozen=True, slots=True)
class Drillable:
    """What is booted."""

    image: Path
    bus: Bus = "virtio"
    """As it is attached here, as far as a virtual machine has that."""
    known: BackupSet | None = None
    """Where it is a DPSR disk of this machine."""
    secure: bool = False
    """Whether it is, and Secure Boot is on here."""
    check: str = ""
    """The script that dpsr.toml names for it."""


def find(name: str, of_set: str) -> Drillable:
    """What `name` means: an image, or a disk by path, serial number or WWN.

    Nothing: the DPSR disk of the set `of_set`. Raises ImageUnusable, NotPrepared, CopyUnreachable,
    AmbiguousDisk, BadSettings.
    """
    if not name:
        chosen = settings.load()
        target = find_target(chosen, of_set)
        return recorded(target.machine, target.disk, chosen)
    if is_file(name):
        return Drillable(Path(name))
    machine = look()
    try:
        disk = find_disk(machine, os.path.realpath(name) if os.path.exists(name) else name)
    except NoSuchDisk:
        raise ImageUnusable(f"There is no image and no disk {name}.") from None
    return recorded(machine, disk, settings.load())


def recorded(machine: Machine, disk: Disk, chosen: Settings) -> Drillable:
    """What is known of a disk of this machine. Pure."""
    found = [one for one in chosen.sets if _is(machine, one, disk)]
    plain = Drillable(Path(disk.path), BUSES.get(disk.bus, "virtio"))
    if not found:
        return plain
    return replace(plain, known=found[0], secure=machine.secure_boot, check=chosen.drill_check)


def is_file(name: str) -> bool:
    """Whether `name` is there and no block device."""
    try:
        return not stat.S_ISBLK(os.stat(name).st_mode)
    except OSError:
        return False


def check_of(path: str) -> bytes:
    """The script that is to run in the guest. Raises ImageUnusable."""
    if not path:
        return b""
    try:
        content = Path(path).read_bytes()
    except OSError as reason:
        raise ImageUnusable(
            f"The check {path} cannot be read: {reason.strerror}.", "Name a script that is there."
        ) from None
    if not content.startswith(b"#!"):
        raise ImageUnusable(
            f"The check {path} is no script.", "Begin it with a line such as #!/bin/sh"
        )
    if len(content) > MAX_CHECK:
        raise ImageUnusable(
            f"The check {path} has {len(content)} bytes; {MAX_CHECK} can be brought into a guest.",
            "Put the rest of it into /etc/dpsr/drill.d on the primary: the copy has it, too.",
        )
    return content


@contextmanager
def held(name: str, of_set: str, screen: Screen) -> Iterator[Drillable]:
    """What `name` means, as `find` says. Nobody writes to a disk of this machine meanwhile.

    A DPSR disk that is hidden comes back for it. Raises AlreadyRunning, and what `find` does.
    """
    if name and is_file(name):
        yield find(name, of_set)
        return
    with lock(LOCK, "drill"), shown(screen, None if name else of_set):
        yield find(name, of_set)


def keep(what: Drillable, outcome: Outcome) -> None:
    """Note how it went, for `status`. Raises OSError."""
    known = record.read_record(what.known.name) if what.known else None
    if known is None:
        return
    now = datetime.now(UTC).isoformat(timespec="seconds")
    last = record.Drill(outcome.passed, round(outcome.seconds, 1), now)
    record.write_record(replace(known, drill=last))


def _is(machine: Machine, known: BackupSet, disk: Disk) -> bool:
    found = find_recorded(machine, known.serial, known.wwn, known.guid)
    return found is not None and found.path == disk.path
