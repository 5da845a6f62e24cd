# SPDX-License-Identifier: GPL-3.0-or-later
"""What is on record of disks that are hidden from the system.

/etc/dpsr/hidden tells the udev rule which disks these are; a shell script reads it, in the initrd,
too. /run/dpsr/hidden/NAME.json tells how one that was detached comes back, and what it held.
"""

import json
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from core.files import write_durably
from core.machine.attached import Way
from core.machine.devices import boot_id, read_text
from core.model.machine import Disk
from core.model.plain import Misfit, from_plain, to_plain
from core.model.state import State
from core.record import FOLDER
from core.settings import BackupSet

LIST: Final = Path("/etc/dpsr/hidden")
AWAY: Final = Path("/run/dpsr/hidden")
KEPT: Final = FOLDER / "hidden"
"""The same once more, of the last time: a disk that is back is still known by it."""
REVEALED: Final = Path("/run/dpsr/revealed")
"""Holds until when, in seconds since the epoch; the udev rule only asks whether it is there."""
VERSION: Final = 1

_HEAD: Final = (
    "# Disks that dpsr hides from this system: GUID of the disk, serial number, WWN; - for none.\n"
    "# dpsr writes this file, and /usr/lib/udev/dpsr-hidden reads it.\n"
)


@dataclass(frozen=True, slots=True)
class Away:
    """A disk that was detached. Made with `away`."""

    version: int
    boot: str
    """The kernel's boot id: in another boot the disk is there again."""
    since: float
    """Seconds since the epoch."""
    way: Way
    disk: Disk
    """As it was last seen."""
    state: State | None
    """What its state sector said; None: it could not be read."""


def away(way: Way, disk: Disk, state: State | None) -> Away:
    """The record of a disk that is detached now."""
    return Away(VERSION, boot_id(), time.time(), way, disk, state)


def listing(sets: Iterable[BackupSet]) -> str:
    """The text of /etc/dpsr/hidden; empty when no disk is to be hidden. Pure."""
    lines = [
        " ".join((known.guid.lower() or "-", _word(known.serial), _word(known.wwn)))
        for known in sets
    ]
    return _HEAD + "".join(f"{line}\n" for line in lines) if lines else ""


def write_list(sets: Iterable[BackupSet], path: Path = LIST) -> bool:
    """Let the udev rule hide the disks of these sets; False when it was so already.

    Raises OSError.
    """
    text = listing(sets)
    if text == read_text(str(path)):
        return False
    if text:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        write_durably(path, text.encode())
    else:
        path.unlink(missing_ok=True)
    return True


def read_away(known: BackupSet, *folders: Path) -> Away | None:
    """How the disk of a set comes back; None: nothing is on record of it having been detached."""
    for folder in folders or (AWAY, KEPT):
        try:
            content = (folder / f"{known.name}.json").read_bytes()
        except OSError:
            continue
        if (found := from_text(content, known.guid)) is not None:
            return found
    return None


def from_text(content: bytes, guid: str) -> Away | None:
    """Read a record; None: it is of another disk, or of another version. Pure.

    A restart of the system brings the disk back then.
    """
    try:
        data = json.loads(content)
        if not isinstance(data, dict) or data.get("version") != VERSION:
            return None
        found = from_plain(Away, data)
    except (ValueError, Misfit):
        return None
    return found if found.disk.guid in {"", guid} else None


def away_now(known: BackupSet) -> Away | None:
    """The same, if the disk is away: detached since this system was started, and not back."""
    found = read_away(known, AWAY)
    return found if found is not None and found.boot == boot_id() else None


def write_away(name: str, gone: Away, *folders: Path) -> None:
    """Record it; to be called before the disk is detached. Raises OSError when /run takes it not.

    Early in a start the other place may not be there, or not be writable yet.
    """
    first, *others = folders or (AWAY, KEPT)
    text = json.dumps(to_plain(gone), indent=1).encode() + b"\n"
    first.mkdir(mode=0o755, parents=True, exist_ok=True)
    write_durably(first / f"{name}.json", text)
    for folder in others:
        with suppress(OSError):
            if folder.parent.is_dir():
                folder.mkdir(mode=0o755, exist_ok=True)
                write_durably(folder / f"{name}.json", text)


def came_back(name: str) -> None:
    """The disk is there again; where it was found stays on record, for the next time."""
    forget_away(name, AWAY)


def forget_away(name: str, *folders: Path) -> None:
    """The disk will not be hidden any more."""
    for folder in folders or (AWAY, KEPT):
        with suppress(OSError):
            (folder / f"{name}.json").unlink(missing_ok=True)


def revealed_until(path: Path | None = None) -> float:
    """Until when the disks are revealed, in seconds since the epoch; 0: they are not."""
    try:
        return float((path or REVEALED).read_text("ascii"))
    except (OSError, ValueError):
        return 0.0


def _word(text: str) -> str:
    """As one word of a line: a shell script takes it apart at spaces."""
    return "_".join(text.split()) or "-"
