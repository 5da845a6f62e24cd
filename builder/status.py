# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers what a person asks first: is there a good copy, and how old is it.

The disk itself answers (its state sector); what only this machine knows comes from /etc/dpsr and
/var/lib/dpsr. `dpsr status` is asked often, so nothing heavy is imported here.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from builder.shape_now import shape_now
from core.errors import AmbiguousDisk, ToolError
from core.files import LOCK, held_by
from core.hidden import Away, away_now, revealed_until
from core.machine.attached import attached, way_of
from core.machine.counters import read_counters
from core.machine.devices import sysfs_name
from core.machine.find import find_recorded
from core.machine.udev import is_ignored
from core.model.machine import Disk, Machine
from core.model.state import State
from core.record import Record, Written, read_record, written_since
from core.settings import BackupSet, Settings
from grub import state

What = Literal["building", "clean", "updating", "rolling-back", "none"]


@dataclass(frozen=True, slots=True)
class Status:
    """Everything that `dpsr status` says."""

    name: str
    state: What
    generation: int
    taken: datetime | None
    running_from: Literal["primary", "dpsr"]
    hidden: bool
    recorded: BackupSet | None
    disk: Disk | None
    """None when it is not there; of one that is detached, as it was last seen."""
    sources: dict[str, str]
    """By mount point: the device that is copied, where it is mounted now."""
    booted: bool
    """The copy was started since the last backup."""
    record: Record | None
    written: Written | None
    trouble: str
    """Why the disk did not answer; empty when it did, or was not asked."""
    at_work: str
    """What a dpsr that runs at this moment says of itself; empty: none does, or no root asked."""
    changes: tuple[str, ...]
    """In what the DPSR disk does not fit the system any more, a sentence each."""
    asked: bool
    """False without root: then all of it is what is on record."""
    to: int | None = None
    """In `rolling-back`: the generation to arrive at."""
    how: Literal["detached", "ignored", ""] = ""
    """How it is hidden."""
    why: str = ""
    """Why it is ignored and not detached, or in sight, as the end of a sentence."""
    hides: bool = True
    """It is to be hidden."""
    revealed: datetime | None = None
    """Until when it is in sight because somebody asked for that."""

    @property
    def healthy(self) -> bool:
        """A complete copy of the whole system, on a disk that answers."""
        return (
            self.state == "clean"
            and self.disk is not None
            and not self.trouble
            and not self.changes
        )


def status(machine: Machine, settings: Settings, name: str) -> Status:
    """Ask about the backup set `name`. Reads, and writes nothing; sees all of it only as root.

    A `glance` at the machine is enough, but for disks whose serial number only udev knows.
    """
    home = copy_we_run_from(machine)
    recorded = _recorded(settings, name, home)
    record = read_record(name)
    gone = away_now(recorded) if recorded is not None and home is None else None
    disk, found, trouble = _ask(machine, recorded, home, gone)
    how, why = _hidden(machine, disk) if home is None else ("", "")
    return Status(
        name=name,
        state=_what(recorded, home, found, record),
        generation=found.gen if found else record.generation if record else 0,
        taken=_instant(found.taken if found else record.taken if record else ""),
        running_from="dpsr" if home else "primary",
        hidden=bool(how),
        recorded=recorded,
        disk=disk,
        sources={mount.mountpoint: mount.source for mount in machine.mounts},
        booted=found is not None and found.booted,
        record=record,
        written=None if home or not _is_of(record, found) else _written(machine, record),
        trouble=trouble,
        at_work=held_by(LOCK),
        changes=() if home or recorded is None else shape_now(machine, recorded, disk),
        asked=os.geteuid() == 0,
        to=found.to if found else None,
        how=how,
        why=why,
        hides=settings.hide,
        revealed=_revealed() if disk is not None and not how else None,
    )


def copy_we_run_from(machine: Machine) -> Disk | None:
    """The DPSR disk, if `/` lies on one of its slots."""
    root = machine.mount_at("/")
    part = machine.partition(root.source) if root else None
    if part is None or not part.name.startswith("dpsr-slot-"):
        return None
    return machine.disk_of(part.path)


def _recorded(settings: Settings, name: str, home: Disk | None) -> BackupSet | None:
    """The set asked for; when we run from its disk, the one of that disk, if the copy knows it."""
    fits = (known for known in settings.sets if home is None or known.guid == home.guid)
    return next((known for known in fits if home is not None or known.name == name), None)


def _ask(
    machine: Machine, recorded: BackupSet | None, home: Disk | None, gone: Away | None
) -> tuple[Disk | None, State | None, str]:
    """The DPSR disk, what its state sector says, and what was in the way.

    One that is detached need not be brought back for it: nobody can have written to it since.
    """
    try:
        if recorded is not None:
            disk = home or find_recorded(machine, recorded.serial, recorded.wwn, recorded.guid)
            if disk is None and gone is not None:
                return gone.disk, gone.state, ""
            if disk is None:
                return None, None, "The DPSR disk is not there."
            return disk, *_read(lambda: state.read_state(disk.path, recorded.state_offset))
        if home is not None:
            return home, *_read(lambda: _from_control(home))
    except AmbiguousDisk as reason:
        return None, None, str(reason)
    return None, None, ""


def _hidden(machine: Machine, disk: Disk | None) -> tuple[Literal["detached", "ignored", ""], str]:
    """How the disk is hidden, and why not better."""
    if disk is None:
        return "", ""
    if disk not in machine.disks:
        return "detached", ""
    if not is_ignored(disk.dev):
        return "", ""
    return "ignored", way_of(attached(sysfs_name(disk.path))).why


def _revealed() -> datetime | None:
    until = revealed_until()
    return datetime.fromtimestamp(until, UTC) if until > datetime.now(UTC).timestamp() else None


def _read(read: Callable[[], State]) -> tuple[State | None, str]:
    if os.geteuid() != 0:
        return None, ""
    try:
        return read(), ""
    except ToolError as reason:
        return None, str(reason)


def _from_control(disk: Disk) -> State:
    """The state of the disk that we run from, when the copy does not know where it lies."""
    from core.namespace import go_private, mounted

    control = next((part.path for part in disk.partitions if part.name == "dpsr-control"), "")
    go_private()
    with mounted(control, "status", "ro", fstype="vfat") as folder:
        return state.parse((folder / state.FILE).read_bytes())


def _what(
    recorded: BackupSet | None, home: Disk | None, found: State | None, record: Record | None
) -> What:
    if found is not None:
        return found.state
    if home is not None or (recorded is not None and record is not None):
        return "clean"  # as it was when it was last seen
    return "none"


def _is_of(record: Record | None, found: State | None) -> bool:
    """Whether the record may be that of what the disk holds, and not of a newer backup.

    Where the disk went back to an older one (the rescue system may have done it), more was written
    since than the record knows.
    """
    if record is None or found is None or found.state == "updating":
        return True
    return found.state == "clean" and (found.txid == record.txid or found.gen > record.generation)


def _written(machine: Machine, record: Record | None) -> Written | None:
    if record is None or record.counters is None:
        return None
    volumes = {
        place: mount.dev
        for place, _ in record.counters.written
        if (mount := machine.mount_at(place))
    }
    return written_since(record.counters, read_counters(volumes))


def _instant(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None
