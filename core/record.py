# SPDX-License-Identifier: GPL-3.0-or-later
"""/var/lib/dpsr/NAME.json: what the last run and the last drill of a backup set did.

Programs own it; nothing depends on it but what people are told.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from core.files import write_durably
from core.model.figures import RunFigures
from core.model.plain import Misfit, from_plain, to_plain

FOLDER: Final = Path("/var/lib/dpsr")


@dataclass(frozen=True, slots=True)
class Counters:
    """How much the kernel has written to each volume since it was started, at one moment."""

    boot: str
    """The kernel's boot id: counters of another boot say nothing about this one."""
    written: tuple[tuple[str, int], ...]
    """Mount point and bytes."""


@dataclass(frozen=True, slots=True)
class Drill:
    """The last boot test."""

    passed: bool
    seconds: float
    at: str
    """ISO 8601 with zone."""


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of one backup set."""

    name: str
    generation: int
    txid: str
    taken: str
    """The point in time of the copy, ISO 8601 with zone."""
    run: RunFigures
    counters: Counters | None = None
    """At that point in time."""
    drill: Drill | None = None
    mounts: tuple[tuple[str, int], ...] = ()
    """By slot: how often its volume had been mounted at that point in time."""


@dataclass(frozen=True, slots=True)
class Written:
    """How much was written since the copy: at most this, as blocks written twice count twice."""

    size: int
    complete: bool
    """False after a restart: what was written between the copy and the restart is not in it."""


def read_record(name: str, folder: Path = FOLDER) -> Record | None:
    """The record of the set `name`; None when there is none that can be read."""
    try:
        return from_plain(Record, json.loads((folder / f"{name}.json").read_bytes()))
    except (OSError, ValueError, Misfit):
        return None  # lost, or written by another version: the disk itself says what counts


def write_record(record: Record, folder: Path = FOLDER) -> None:
    """Replace the record of its set, whole or not at all."""
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    text = json.dumps(to_plain(record), indent=1)
    write_durably(folder / f"{record.name}.json", text.encode() + b"\n")


def forget_record(name: str, folder: Path = FOLDER) -> None:
    """Delete the record of the set `name`, if there is one."""
    (folder / f"{name}.json").unlink(missing_ok=True)


def written_since(then: Counters, now: Counters) -> Written:
    """How much was written to the volumes of `then` between the two. Pure."""
    before: Mapping[str, int] = dict(then.written)
    same_boot = then.boot == now.boot
    total = sum(
        max(0, size - (before[place] if same_boot else 0))
        for place, size in now.written
        if place in before
    )
    return Written(total, same_boot)
