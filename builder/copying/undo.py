# SPDX-License-Identifier: GPL-3.0-or-later
"""Writers that save what they are about to overwrite, so that an update can be taken back.

Writes to all slots are gathered into batches. Per batch: the old content of what has not been
saved yet goes into the undo log, the log is synced, then the slots are overwritten, by threads of
their own: meanwhile the next batch is gathered and saved, and waits there until this one has
landed. The first batch for a slot destroys its identity blocks before anything else, so that a
slot that is half written can neither be mounted nor be taken for another.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Self

from builder.copying.direct import Reader, SlotWriter, Writer, buffer
from builder.copying.saved import Saved
from builder.vault.undoformat import LONGEST, LogSlot
from builder.vault.undolog import LogFile
from core import points
from core.errors import WriteFailed
from core.model.blockset import EMPTY, BlockSet
from core.threads import started

ROOM: Final = 8 << 20
"""Bytes of writes that are gathered, for all slots together; twice that is under way."""
_PAGE: Final = 4096
_THREADS: Final = 4
"""Reads of old content that are under way at the same time, and writes."""
_NEAR: Final = 32 << 10
"""Bytes between two ranges that are rather read along than left out."""


class _Slot:
    """One slot: its device for reading and writing, and what of it is saved."""

    def __init__(self, known: LogSlot, path: str, identity: BlockSet, stack: ExitStack) -> None:
        self.reader = stack.enter_context(closing(Reader(path)))
        self.device = stack.enter_context(closing(SlotWriter(path)))
        self.name = known.name
        self.size = known.size
        if identity.within(known.size) != identity:
            raise WriteFailed(f"A superblock of {known.name} lies outside its slot.")
        self.identity = identity
        self.saved = Saved(known.size)
        self.destroyed = False
        self.bare = EMPTY
        """Identity blocks that were destroyed and not written since."""


class _Batch:
    """Room for writes to all slots, and what they are."""

    def __init__(self) -> None:
        self.room = buffer(ROOM)
        self.used = 0
        self.writes: list[tuple[int, int, int, int]] = []
        """Slot, offset, place in the room, length; in the order of the writes."""

    def note(self, slot: int, offset: int, length: int) -> None:
        """The next `length` bytes of the room belong to `offset` of a slot."""
        if self.writes:
            # Small neighbours become one write.
            last, begin, place, size = self.writes[-1]
            if (last, begin + size, place + size) == (slot, offset, self.used):
                self.writes[-1] = (last, begin, place, size + length)
                self.used += length + -length % _PAGE
                return
        self.writes.append((slot, offset, self.used, length))
        self.used += length + -length % _PAGE

    def ranges(self) -> dict[int, BlockSet]:
        """What is written, by slot."""
        return {
            index: BlockSet.of(
                (offset, offset + length)
                for slot, offset, _place, length in self.writes
                if slot == index
            )
            for index in {slot for slot, *_ in self.writes}
        }

    def clear(self) -> None:
        self.writes.clear()
        self.used = 0


class Undo:
    """The writers of one transaction, `writers`, by name of the slot. A context manager.

    `slots` pairs each slot, in the order of the log's header, with its device. `identity` are the
    superblocks and their backups, `[start, end)` in bytes, whole sectors; they should be written
    last, after a `flush`. The writers raise ReadFailed, WriteFailed, NoRoom; then nothing was
    overwritten that is not in the log. A write that failed is told with the next batch, or by
    `flush`. Once the block is left nobody writes any more.
    """

    def __init__(
        self,
        log: LogFile,
        slots: Sequence[tuple[LogSlot, str]],
        identity: Mapping[str, BlockSet],
    ) -> None:
        self._log = log
        self._stack = ExitStack()
        with self._stack:
            self._slots = [
                _Slot(known, path, identity.get(known.name, EMPTY), self._stack)
                for known, path in slots
            ]
            self._stack = self._stack.pop_all()
        self._batch, self._landing = _Batch(), _Batch()
        """What is gathered, and what is being written to the slots."""
        self._writing: list[Future[None]] = []
        self._old = buffer(max(ROOM, LONGEST))
        # They are left before the devices are closed, and wait for what is under way.
        self._readers = self._stack.enter_context(started(_THREADS, "undo-read"))
        self._overwriters = self._stack.enter_context(started(_THREADS, "undo-write"))
        self.saved_bytes = 0
        """How much of the slots is in the log."""
        self.writers: dict[str, Writer] = {
            known.name: _SlotWriter(self, index) for index, (known, _path) in enumerate(slots)
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def bare(self) -> tuple[str, ...]:
        """Slots whose identity blocks were destroyed and not all written since."""
        return tuple(slot.name for slot in self._slots if slot.bare)

    def gather(self, slot: int, offset: int, view: memoryview) -> None:
        """Take a write; it reaches the slot with its batch."""
        if offset + len(view) > self._slots[slot].size:
            # A log that speaks of bytes outside its slots is not believed, and could not lead back.
            raise WriteFailed(f"Byte {offset} lies outside the slot {self._slots[slot].name}.")
        while view:
            if self._batch.used == len(self._batch.room):
                self._spill()
            batch = self._batch
            piece = view[: len(batch.room) - batch.used]
            batch.room[batch.used : batch.used + len(piece)] = piece
            batch.note(slot, offset, len(piece))
            offset += len(piece)
            view = view[len(piece) :]

    def flush(self, slot: int) -> None:
        """Return when all that was gathered is on the slots, and on `slot` to stay."""
        self._spill()
        self._land()
        self._slots[slot].device.flush()

    def _spill(self) -> None:
        """Save what the batch overwrites, then begin to write it: the next one can be gathered."""
        batch = self._batch
        if not batch.writes:
            return
        ranges = batch.ranges()
        for index in ranges:
            self._destroy(index)
        self._save(ranges)
        self._land()
        self._batch, self._landing = self._landing, batch
        alone = sum(blocks.total for blocks in ranges.values())
        self._begin_to_write(batch, in_order=alone < sum(length for *_, length in batch.writes))

    def _begin_to_write(self, batch: _Batch, *, in_order: bool) -> None:
        """Write the batch to the slots; at once where no two writes concern the same blocks."""
        jobs = [
            partial(self._slots[slot].device.write, offset, batch.room[place : place + length])
            for slot, offset, place, length in batch.writes
        ]
        for first in range(1 if in_order else min(_THREADS, len(jobs))):
            some = jobs if in_order else jobs[first::_THREADS]
            self._writing.append(self._overwriters.submit(_do, some))

    def _land(self) -> None:
        """Return when all that was begun to be written is written. Raises what went wrong there."""
        if not self._writing:
            return
        wait(self._writing)
        for each in self._writing:
            each.result()
        self._writing.clear()
        for index, ranges in self._landing.ranges().items():
            if ranges.intersect(self._slots[index].bare):
                self._clothe(index)
        self._landing.clear()
        points.reach("overwritten")

    def _clothe(self, index: int) -> None:
        """Note which identity blocks the batch that has landed wrote."""
        for slot, offset, place, length in self._landing.writes:
            # Zeros over a superblock are none.
            if slot == index and any(self._landing.room[place : place + length]):
                written = BlockSet.of([(offset, offset + length)])
                self._slots[slot].bare = self._slots[slot].bare.minus(written)

    def _destroy(self, index: int) -> None:
        """Overwrite a slot's identity blocks by zeros, once, and wait until that is on the disk."""
        slot = self._slots[index]
        if slot.destroyed:
            return
        self._save({index: slot.identity})
        self._old[:] = bytes(len(self._old))
        for start, end in slot.identity.pieces(len(self._old)):
            slot.device.write(start, self._old[: end - start])
        slot.device.flush()
        slot.destroyed = True
        slot.bare = slot.identity
        points.reach("destroyed")

    def _save(self, wanted: Mapping[int, BlockSet]) -> None:
        """Put the old content of what is not saved yet into the log, and sync that."""
        fresh = {index: self._slots[index].saved.fresh(ranges) for index, ranges in wanted.items()}
        for index, ranges in fresh.items():
            identity = self._slots[index].identity
            self._append(index, ranges.minus(identity), identity=False)
            self._append(index, ranges.intersect(identity), identity=True)
        if any(fresh.values()):
            self._log.sync()
            points.reach("undo-synced")
        for index, ranges in fresh.items():
            self._slots[index].saved.add(ranges)
            self.saved_bytes += ranges.total

    def _append(self, index: int, ranges: BlockSet, *, identity: bool) -> None:
        for runs in _lots(ranges, len(self._old)):
            self._read(self._slots[index].reader, runs)
            for run in runs:
                for start, end in run.wanted:
                    at = run.place + start - run.start
                    view = self._old[at : at + end - start]
                    self._log.append(index, start, view, identity=identity)

    def _read(self, slot: Reader, runs: Sequence["_Run"]) -> None:
        jobs = [
            partial(slot.read_into, run.start, self._old[run.place : run.place + run.length])
            for run in runs
        ]
        done: list[Future[None]] = []
        try:
            starts = range(min(_THREADS, len(jobs)))
            done.extend(self._readers.submit(_do, jobs[first::_THREADS]) for first in starts)
            wait(done)
        finally:
            wait(done)  # a signal may have ended the first, and the memory is used again
        for each in done:
            each.result()


def _do(jobs: Sequence[Callable[[], None]]) -> None:
    for job in jobs:
        job()


@dataclass(slots=True)
class _Run:
    """What is read at once: wanted ranges, and what little lies between them."""

    start: int
    place: int
    """Where it goes in the buffer."""
    length: int = 0
    wanted: list[tuple[int, int]] = field(default_factory=list)


def _lots(ranges: BlockSet, room: int) -> Iterator[list[_Run]]:
    """`ranges` in runs, as many at a time as fit into `room` bytes."""
    runs: list[_Run] = []
    used = 0
    for start, end in ranges.pieces(LONGEST):
        last = runs[-1] if runs else None
        grown = end - last.start if last else 0
        near = last is not None and start - (last.start + last.length) <= _NEAR
        if last is None or not near or grown > LONGEST:
            if used + end - start > room:
                yield runs
                runs, used = [], 0
            last, grown = _Run(start, used), end - start
            runs.append(last)
        elif used + grown - last.length > room:
            yield runs
            runs, used = [last := _Run(start, 0)], 0
            grown = end - start
        used += grown - last.length
        last.length = grown
        last.wanted.append((start, end))
    if runs:
        yield runs


class _SlotWriter:
    """The `Writer` of one slot."""

    def __init__(self, undo: Undo, slot: int) -> None:
        self._undo = undo
        self._slot = slot

    def write(self, offset: int, view: memoryview) -> None:
        self._undo.gather(self._slot, offset, view)

    def flush(self) -> None:
        self._undo.flush(self._slot)
