# SPDX-License-Identifier: GPL-3.0-or-later
"""How `dpsr rollback` reads, for people and for programs. Pure."""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from core.screen import human
from dpsr.generations import as_data

if TYPE_CHECKING:
    from core.model.manifest import Manifest
    from recovery.rollback import Step, Way, Ways

_SHOWN: Final = 6
"""Generations that the question names one by one."""


def ways_as_text(found: "Ways") -> str:
    """A table, the newest first, then what to type."""
    if not found.ways:
        return f"{found.holds}\nThere is no generation to go back to.\n"
    rows = [("", "taken", "changed", "to undo", "go back?"), *map(_row, found.ways)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    return "\n".join([*lines, "", found.holds, *_next(found)]) + "\n"


def ways_as_data(found: "Ways") -> dict[str, Any]:
    """The same for programs."""
    return {
        "state": found.state.state,
        "generation": found.state.gen,
        "to": found.state.to,
        "taken": found.state.taken,
        "closed": found.closed or None,
        "generations": [
            as_data(way.generation)
            | {"here": way.is_here, "reachable": way.is_open, "undo_bytes": way.log_size}
            for way in found.ways
        ],
    }


def question(step: "Step") -> str:
    """What a person is asked before the way back is taken."""
    disk = step.disk
    called = ", ".join(filter(None, (disk.model, disk.serial or disk.wwn)))
    return "\n".join(
        [
            f"The DPSR disk {disk.path} ({called}) goes back to generation {step.to.generation}.",
            f"  Afterwards it holds the system as it was at {_when(step.to)}.",
            f"  Lost on it, for good: {_lost(step.lost)}.",
            "  The primary, the system that runs now, is not touched.",
            "Go back? [y/N] ",
        ]
    )


def step_as_data(step: "Step") -> dict[str, Any]:
    """What was done, for programs."""
    return {
        "generation": step.to.generation,
        "taken": step.to.taken,
        "changed": step.taken,
        "lost": [{"generation": each.generation, "taken": each.taken} for each in step.lost],
    }


def _row(way: "Way") -> tuple[str, str, str, str, str]:
    manifest = way.generation.manifest
    said = "yes" if way.is_open else "no"
    return (
        f"{manifest.generation}{'*' if way.is_here else ''}",
        _when(manifest),
        human(manifest.figures.bytes_written),
        human(way.log_size) if way.log_size else "-",
        "it is there now" if way.is_here else said,
    )


def _next(found: "Ways") -> list[str]:
    if found.state.state in {"updating", "rolling-back"}:
        return []  # what the disk holds says it, too
    if found.closed:
        return [found.closed]
    for way in found.ways:
        if way.is_open:
            number = way.generation.manifest.generation
            return [f"Go back with, for example: dpsr rollback {number}"]
    return ["There is no older generation to go back to."]


def _lost(lost: "Sequence[Manifest]") -> str:
    said = [f"generation {each.generation} of {_when(each)}" for each in lost[:_SHOWN]]
    if (more := len(lost) - _SHOWN) > 0:
        said.append(f"{more} more, down to generation {lost[-1].generation}")
    return ", ".join(said)


def _when(manifest: "Manifest") -> str:
    return f"{datetime.fromisoformat(manifest.taken).astimezone():%Y-%m-%d %H:%M:%S}"
