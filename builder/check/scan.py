# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads a slot back, once, past the page cache, and compares it with its digests."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from builder.copying.direct import Reader, buffer
from builder.digests.blocks import BLOCK, Digested, digest
from builder.digests.format import Damaged
from builder.digests.store import Stack
from core.errors import ReadFailed
from core.model.blockset import BlockSet
from core.screen import Advance

_CHUNK: Final = 1024
"""Blocks that are read at once, those between them that nobody vouches for among them: 4 MiB."""
_DEPTH: Final = 6
MOST: Final = 1 << 17
"""Wrong blocks that are listed, of a slot: 512 MiB. A disk that is worse needs no list."""
_THREADS: Final = 4


@dataclass(slots=True)
class Scanned:
    """What was found in one slot; blocks are numbered from its beginning, 4 KiB each."""

    checked: int = 0
    """Bytes that were compared."""
    wrong: dict[int, int] = field(default_factory=dict)
    """Blocks that hold something else, or cannot be read; and the digests due."""
    more: int = 0
    """How many are wrong beside those, which are not listed."""
    unreadable: set[int] = field(default_factory=set)
    unknown: int = 0
    """Bytes whose digests are lost."""
    trouble: list[str] = field(default_factory=list)
    """What is wrong with the digests, in sentences."""


def covered_bytes(stack: Stack, name: str) -> int:
    """About how much of a slot is going to be read."""
    try:
        return stack.covered(name).total * BLOCK
    except (Damaged, OSError):
        return 0


def scan(device: str, size: int, stack: Stack, name: str, advance: Advance) -> Scanned:
    """Check all of the slot `name`, of `size` bytes. Raises ReadFailed when it cannot be opened."""
    found = Scanned()
    with closing(Reader(device)) as reader, ThreadPoolExecutor(_THREADS, "verify") as pool:
        spare = [buffer(_CHUNK * BLOCK) for _ in range(_DEPTH)]
        reading: deque[tuple[memoryview, Digested, Future[list[tuple[int, bool]]]]] = deque()

        def take() -> None:
            room, part, job = reading.popleft()
            for at, readable in job.result():
                block = int(part.blocks[at])
                if len(found.wrong) >= MOST:
                    found.more += 1
                    continue
                found.wrong[block] = int(part.digests[at])
                if not readable:
                    found.unreadable.add(block)
            found.checked += len(part.blocks) * BLOCK
            advance(len(part.blocks) * BLOCK)
            spare.append(room)

        try:
            for part in _parts(stack, name, found):
                if not spare:
                    take()
                room = spare.pop()
                reading.append((room, part, pool.submit(_check, reader, size, part, room)))
            while reading:
                take()
        finally:
            wait([job for _, _, job in reading])
    return found


def _parts(stack: Stack, name: str, found: Scanned) -> Iterator[Digested]:
    """What is to be checked, as much at a time as is read at once."""
    for number in stack.windows(name):
        try:
            covered, known = stack.window(name, number)
        except (Damaged, OSError) as reason:
            found.trouble.append(f"{reason}")
            found.unknown += _covered(stack, name, number).total * BLOCK
            continue
        found.unknown += (covered.total - len(known.blocks)) * BLOCK
        bounds = np.flatnonzero(np.diff(known.blocks // _CHUNK)) + 1
        for low, high in zip([0, *bounds], [*bounds, len(known.blocks)], strict=True):
            if high > low:
                yield Digested(known.blocks[low:high], known.digests[low:high])


def _covered(stack: Stack, name: str, number: int) -> BlockSet:
    try:
        return stack.files[0].covered(name, number)
    except (Damaged, OSError):
        return BlockSet.of([])


def _check(reader: Reader, size: int, part: Digested, room: memoryview) -> list[tuple[int, bool]]:
    """Places in `part` of the blocks that are not as they ought to be; and whether readable."""
    first = int(part.blocks[0])
    end = min((int(part.blocks[-1]) + 1) * BLOCK, size)
    places = (part.blocks - first).tolist()
    bad = []
    try:
        reader.read_into(first * BLOCK, room[: end - first * BLOCK])
        unreadable: set[int] = set()
    except ReadFailed:  # one by one: most of them can be read
        unreadable = {
            place for place in places if not _readable(reader, first + place, place, size, room)
        }
    for at, (place, wanted) in enumerate(zip(places, part.digests.tolist(), strict=True)):
        stop = min((place + 1) * BLOCK, end - first * BLOCK)
        if place in unreadable or digest(room[place * BLOCK : stop]) != wanted:
            bad.append((at, place not in unreadable))
    return bad


def _readable(reader: Reader, block: int, place: int, size: int, room: memoryview) -> bool:
    stop = min((block + 1) * BLOCK, size) - block * BLOCK
    try:
        reader.read_into(block * BLOCK, room[place * BLOCK : place * BLOCK + stop])
    except ReadFailed:
        return False
    return True
