# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the kernel's trace ring buffer: pages of binary events in, written sectors out. Pure.

Binary pages (`trace_pipe_raw`) and not `trace_pipe`'s text: a process may put a line break into
its own name, which would tear a line of text; and the kernel need not print what we would parse.
The layout is the one that `events/header_page` and `events/*/format` describe, on little-endian
machines.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Events = npt.NDArray[np.int64]
"""Shape (n, 3): device number (`major << 20 | minor`), first sector, number of sectors."""

NONE: Final[Events] = np.empty((0, 3), dtype=np.int64)

_HEADER: Final = 16
"""Bytes before a page's events: time stamp and `commit`, 8 bytes each."""
_MISSED: Final = 0b11 << 30
"""Bits of `commit` that say that events were lost before this page."""
_SIZE: Final = (1 << 20) - 1
_PADDING: Final = 29
_STAMPS: Final = (30, 31)
_FIELD: Final = re.compile(r"field:[^;]*\b(\w+)(?:\[\d*\])?;\s*offset:(\d+);\s*size:(\d+);")


@dataclass(frozen=True, slots=True)
class Format:
    """Where one kind of event keeps what we need: offsets in 32-bit words."""

    number: int
    dev: int
    sector: int
    count: int


def parse_format(text: str) -> Format:
    """The `format` file of a block event. Raises ValueError when it is not of the known shape."""
    number = re.search(r"^ID: (\d+)$", text, re.MULTILINE)
    fields = {name: (int(offset), int(size)) for name, offset, size in _FIELD.findall(text)}
    shape = {"common_type": 2, "dev": 4, "sector": 8, "nr_sector": 4}
    if number is None or {name: fields.get(name, (0, 0))[1] for name in shape} != shape:
        raise ValueError("unknown layout of block events")
    places = [fields[name][0] for name in ("dev", "sector", "nr_sector")]
    if fields["common_type"][0] != 0 or any(place % 4 for place in places):
        raise ValueError("unknown layout of block events")
    dev, sector, count = (place // 4 for place in places)
    return Format(int(number[1]), dev, sector, count)


def parse_pages(pages: Sequence[bytes], formats: Mapping[int, Format]) -> tuple[Events, bool]:
    """The events of some pages (each whole, as one `read` gave it), and whether some were lost.

    Events without a length or a place (flushes, commands to the drive: sector -1) are left out; so
    are events that are in none of `formats`, by number.
    """
    found = [NONE]
    starts: list[int] = []
    lost = False
    base = 0
    words = np.frombuffer(b"".join(pages), dtype="<u4")
    for page in pages:
        commit = int(words[base + 2])
        lost = lost or bool(commit & _MISSED)
        end = base + (_HEADER + (commit & _SIZE)) // 4
        starts += _walk(words[base:end].tolist(), base)
        base += len(page) // 4
    places = np.array(starts, dtype=np.int64)
    kinds = words[places] & 0xFFFF
    for number, form in formats.items():
        at = places[kinds == number]
        sector = words[at + form.sector].astype(np.int64)
        sector |= words[at + form.sector + 1].astype(np.int64) << 32
        count = words[at + form.count].astype(np.int64)
        dev = words[at + form.dev].astype(np.int64)
        found.append(np.column_stack((dev, sector, count))[(count > 0) & (sector >= 0)])
    return np.concatenate(found), lost


def _walk(words: list[int], base: int) -> list[int]:
    """Word offsets, plus `base`, of the payloads in one page.

    Source: linux/ring_buffer.h, `struct ring_buffer_event`.
    """
    starts = []
    position = _HEADER // 4
    while position < len(words):
        kind = words[position] & 31
        if 0 < kind < _PADDING:
            starts.append(base + position + 1)
            position += 1 + kind
        elif kind == 0:  # a long event: its length, itself included, follows
            starts.append(base + position + 2)
            position += 1 + (words[position + 1] + 3) // 4
        elif kind in _STAMPS:
            position += 2
        elif words[position] >> 5:  # padding in place of an event that was discarded
            position += 1 + (words[position + 1] + 3) // 4
        else:
            break  # the rest of the page is empty
    return starts
