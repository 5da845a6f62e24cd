# SPDX-License-Identifier: GPL-3.0-or-later
"""How `dpsr history` reads, for people and for programs. Pure."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from builder.history import Generation
from core.screen import duration, human


def as_text(found: Sequence[Generation]) -> str:
    """A table, the newest first, and what can be done with it."""
    if not found:
        return "There is no backup on the DPSR disk.\n"
    head = ("", "taken", "took", "changed", "waited", "found by", "way back")
    rows = [head, *map(_row, found)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    lines.append("")
    lines.append('"changed" was written to the DPSR disk, "waited" is the longest that a writer')
    lines.append('was held up, "way back" the size of what leads to the backup before.')
    return "\n".join(lines) + "\n"


def as_data(each: Generation) -> dict[str, Any]:
    """The same for programs: bytes, seconds, ISO 8601."""
    manifest, figures = each.manifest, each.manifest.figures
    return {
        "generation": manifest.generation,
        "newest": each.newest,
        "taken": manifest.taken,
        "seconds": figures.seconds,
        "bytes_examined": figures.bytes_examined,
        "bytes_written": figures.bytes_written,
        "passes": figures.passes,
        "stall_seconds": figures.stall_seconds,
        "detector": figures.detector,
        "undo_log_bytes": each.log_size,
        "hostname": manifest.hostname,
        "kernel": manifest.kernel,
        "volumes": [
            {"mountpoint": slot.mountpoint, "taken": slot.taken or manifest.taken}
            for slot in manifest.slots
        ],
    }


def _row(each: Generation) -> tuple[str, str, str, str, str, str, str]:
    manifest, figures = each.manifest, each.manifest.figures
    taken = datetime.fromisoformat(manifest.taken).astimezone()
    return (
        f"{manifest.generation}{'*' if each.newest else ''}",
        f"{taken:%Y-%m-%d %H:%M:%S}",
        duration(figures.seconds),
        human(figures.bytes_written),
        f"{figures.stall_seconds:.2f} s",
        figures.detector,
        human(each.log_size) if each.log_size else "-",
    )
