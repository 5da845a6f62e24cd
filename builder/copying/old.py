# SPDX-License-Identifier: GPL-3.0-or-later
"""What slots hold before they are overwritten: read, and made small for the undo log, by threads.

What is wanted of a slot is mostly many small ranges. Near ones are read at once, and several
threads are at work: a request that is alone costs a disk the same whatever its size.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Final, NamedTuple, Self

from builder.copying.direct import Reader, buffer
from builder.vault.undoformat import LONGEST
from builder.vault.undolog import Packed, Packer
from core.model.blockset import BlockSet
from core.threads import started

_THREADS: Final = 4
_AHEAD: Final = 4
"""Parts of a batch, of up to `LONGEST` bytes, that are read before the first one is asked for."""
_NEAR: Final = 32 << 10
"""Bytes between two ranges that are rather read along than left out."""


class Old(NamedTuple):
    """The content of one range of a slot."""

    slot: int
    offset: int
    identity: bool
    packed: Packed


@dataclass(slots=True)
class Coming:
    """Old content that is being read; to be gone through once, by one thread.

    However much it is, only a few MiB are held in memory.
    """

    _begin: Callable[[Sequence["_Run"]], "Future[list[Old]]"]
    _parts: Iterator[Sequence["_Run"]]
    _reading: deque["Future[list[Old]]"] = field(default_factory=deque)

    def begin(self) -> Self:
        """Read as far ahead as may be."""
        while len(self._reading) < _AHEAD and (part := next(self._parts, None)):
            self._reading.append(self._begin(part))
        return self

    def __iter__(self) -> Iterator[Old]:
        """In order. Raises ReadFailed."""
        while self._reading:
            found = self._reading.popleft().result()
            self.begin()
            yield from found


class OldContent:
    """Threads that read. A context manager; when it is left nobody reads any more."""

    def __init__(self) -> None:
        self._pool = started(_THREADS, "undo-read")
        self._mine = threading.local()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def begin(self, slot: int, reader: Reader, ranges: BlockSet, *, identity: bool) -> Coming:
        """Begin to read `ranges` of the slot of that number in the log."""
        read = partial(self._read, slot, reader, identity)
        return Coming(partial(self._pool.submit, read), _parts(ranges)).begin()

    def _read(self, slot: int, reader: Reader, identity: bool, runs: Sequence["_Run"]) -> list[Old]:
        room, pack = self._tools()
        found = []
        for run in runs:
            reader.read_into(run.start, room[: run.length])
            for start, end in run.wanted:
                view = room[start - run.start : end - run.start]
                found.append(Old(slot, start, identity, pack(view)))
        return found

    def _tools(self) -> tuple[memoryview, Packer]:
        """Those of this thread."""
        if not hasattr(self._mine, "tools"):
            self._mine.tools = buffer(LONGEST), Packer()
        tools: tuple[memoryview, Packer] = self._mine.tools
        return tools


@dataclass(slots=True)
class _Run:
    """What is read at once: wanted ranges, and what little lies between them."""

    start: int
    length: int
    wanted: list[tuple[int, int]] = field(default_factory=list)


def _runs(ranges: BlockSet) -> Iterator[_Run]:
    """`ranges` in runs of at most `LONGEST` bytes."""
    last: _Run | None = None
    for start, end in ranges.pieces(LONGEST):
        if last is not None:
            near = start - (last.start + last.length) <= _NEAR
            if near and end - last.start <= LONGEST:
                last.length = end - last.start
                last.wanted.append((start, end))
                continue
            yield last
        last = _Run(start, end - start, [(start, end)])
    if last is not None:
        yield last


def _parts(ranges: BlockSet) -> Iterator[list[_Run]]:
    """`ranges` in runs, some at a time, together at most `LONGEST` bytes long."""
    part: list[_Run] = []
    size = 0
    for run in _runs(ranges):
        if size + run.length > LONGEST:
            yield part
            part, size = [], 0
        part.append(run)
        size += run.length
    if part:
        yield part
