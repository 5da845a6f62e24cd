# SPDX-License-Identifier: GPL-3.0-or-later
"""How `dpsr status` reads, for a technician who is tired, and for programs. Pure."""

from datetime import datetime
from typing import Any

from builder.status import Status
from core.model.figures import RunFigures
from core.model.plain import to_plain
from core.record import Written
from core.screen import duration, human, moment


def status_as_text(found: Status, now: datetime) -> str:
    """A headline that says whether all is well, then the facts, then what to do next."""
    if found.running_from == "dpsr":
        lines = _running_from_copy(found, now)
    elif found.recorded is None:
        lines = [
            "There is NO copy of this system: no DPSR disk has been made.",
            "",
            "Next: `dpsr disks` lists the disks; `dpsr prepare DISK` makes the copy.",
        ]
    else:
        lines = [_headline(found), "", *_facts(found, now), *_next(found)]
    return "\n".join(lines) + "\n"


def status_as_json(found: Status, now: datetime) -> dict[str, Any]:
    """The keys of CLI.md, and a few more."""
    recorded, record = found.recorded, found.record
    taken = found.taken.isoformat() if found.taken else None
    return {
        "name": found.name,
        "state": found.state,
        "generation": found.generation,
        "taken": taken,
        "age_seconds": _age(found, now),
        "running_from": found.running_from,
        "hidden": found.hidden,
        "hidden_how": found.how or None,
        "hidden_why": found.why or None,
        "revealed_until": found.revealed.isoformat() if found.revealed else None,
        "present": found.disk is not None,
        "booted": found.booted,
        "dpsr": {
            "serial": recorded.serial,
            "wwn": recorded.wwn,
            "guid": recorded.guid,
            "size_bytes": recorded.size,
        }
        if recorded
        else None,
        "volumes": [
            {
                "mountpoint": volume.mountpoint,
                "source": found.sources.get(volume.mountpoint, ""),
                "slot": volume.slot,
                "fstype": volume.fstype,
                "uuid": volume.uuid,
                "slot_uuid": volume.slot_uuid,
                "taken": taken,
            }
            for volume in (recorded.volume if recorded else ())
        ],
        "last_run": to_plain(record.run) if record else None,
        "last_drill": to_plain(record.drill) if record and record.drill else None,
        "next_run": None,
        "written_since_bytes": found.written.size if found.written else None,
        "written_since_complete": found.written.complete if found.written else None,
        "trouble": found.trouble or None,
        "at_work": found.at_work or None,
        "changes": list(found.changes),
        "healthy": found.healthy,
    }


def _running_from_copy(found: Status, now: datetime) -> list[str]:
    disk = found.disk
    where = f"{disk.path}, {disk.model}, serial {disk.serial}" if disk else "unknown"
    lines = [
        "YOU ARE RUNNING FROM THE DPSR DISK, not from the primary.",
        "",
        f"  disk         {where}",
    ]
    if found.taken:
        lines.append(f"  copy of      {_when(found, now)}, generation {found.generation}")
    return [
        *lines,
        "",
        "The system works from here, and what you do is kept on this disk. Leave the disk in the",
        "machine, and tell whoever looks after it that the primary needs to be seen to.",
        "",
        "Next: `dpsr failback DISK` makes a new primary from here; if the old one is well,",
        "`dpsr switch primary` starts it again. `dpsr switch status` says whether this is a trial.",
    ]


def _headline(found: Status) -> str:
    if found.state == "building":
        return "The first copy is NOT COMPLETE. The DPSR disk cannot replace the primary yet."
    if found.disk is None:
        return "The DPSR disk is NOT THERE."
    if found.trouble:
        return "The DPSR disk does NOT ANSWER as it should."
    if found.state == "none":
        return "There is NO copy that is known to be good."
    if found.state == "rolling-back" and found.at_work:
        return f"The copy is being taken back to generation {found.to} ({found.at_work})."
    if found.state == "rolling-back":
        return f"The way back to generation {found.to} was interrupted: it is not ended yet."
    if found.state == "updating" and found.at_work:
        return f"A backup is being made now ({found.at_work})."
    if found.state == "updating":
        return "A backup was interrupted. The next `dpsr update` first takes it back."
    if found.changes:
        return "There is a copy of this system, but NOT OF ALL of it."
    return "There is a good copy of this system."


def _facts(found: Status, now: datetime) -> list[str]:
    lines = []
    if found.taken:
        left = " (on the way back from it)" if found.state == "rolling-back" else ""
        lines.append(f"  taken        {_when(found, now)}, generation {found.generation}{left}")
    if recorded := found.recorded:
        size = human(recorded.size)
        where = f" ({found.disk.path})" if found.disk and found.how != "detached" else ""
        known_by = f"serial {recorded.serial}" if recorded.serial else f"WWN {recorded.wwn}"
        lines.append(f"  disk         {recorded.model}, {known_by}, {size}{where}")
        places = ", ".join(volume.mountpoint for volume in recorded.volume)
        lines.append(f"  copied       {places}")
    if found.disk and (said := _in_sight(found)):
        lines.append(f"  hidden       {said}")
    if found.written:
        lines.append(f"  since then   {_written(found.written)}")
    if found.record:
        lines.append(f"  last run     {_run(found.record.run)}")
        if drill := found.record.drill:
            how = "passed" if drill.passed else "DID NOT PASS"
            lines.append(
                f"  boot test    {how} after {duration(drill.seconds)}, {moment(drill.at)}"
            )
    if found.booted:
        lines.append("  started      the copy was started since it was made; it has changed")
    if not found.asked:
        lines.append("  this is what is on record; as root, `dpsr status` asks the disk itself")
    return lines


def _in_sight(found: Status) -> str:
    if found.how == "detached":
        return "yes: this system does not see it; what it holds is as it was last seen"
    if found.how == "ignored" and found.why:
        return f"in part: read-only and ignored, since {found.why}"
    if found.how == "ignored":
        return "in part: ignored, and not detached" + (" yet" if found.at_work else ": `dpsr hide`")
    if found.revealed is not None:
        until = found.revealed.astimezone()
        return f"NO: it was revealed until {until:%H:%M:%S}; `dpsr hide` hides it now"
    if not found.hides or found.at_work:
        return ""
    return "NO: `dpsr hide` hides it; so does the next `dpsr update`"


def _next(found: Status) -> list[str]:
    disk = found.recorded.serial or found.recorded.wwn if found.recorded else "DISK"
    if found.state in {"building", "none"}:
        return ["", f"Next: dpsr prepare {disk}"]
    if found.disk is None:
        return ["", "Next: look whether the disk is plugged in; `dpsr disks` lists what is there."]
    if found.trouble:
        return ["", found.trouble]
    if found.state == "rolling-back" and not found.at_work:
        return ["", f"Next: dpsr rollback {found.to} goes on with it; so does dpsr update"]
    if found.state == "updating" and not found.at_work:
        return ["", "Next: dpsr update"]
    if found.changes:
        return ["", *found.changes, "", "Next: dpsr prepare --again takes it up."]
    return []


def _when(found: Status, now: datetime) -> str:
    if found.taken is None:
        return "unknown"
    local = found.taken.astimezone()
    age = _age(found, now)
    return f"{local:%Y-%m-%d %H:%M %Z} ({duration(age or 0)} ago)"


def _age(found: Status, now: datetime) -> float | None:
    return round(max(0.0, (now - found.taken).total_seconds()), 1) if found.taken else None


def _written(written: Written) -> str:
    if written.complete:
        return f"at most {human(written.size)} were written on this system"
    return f"{human(written.size)} were written since the last start, and more before it"


def _run(run: RunFigures) -> str:
    return (
        f"{duration(run.seconds)}, {human(run.bytes_written)} copied, "
        f"writers waited {run.stall_seconds:.2f} s"
    )
