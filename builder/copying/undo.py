# SPDX-License-Identifier: GPL-3.0-or-later
"""Writers that save what they are about to overwrite, so that an update can be taken back.

Writes to all slots are gathered into batches, and each batch goes from hand to hand, so that disks
and processors are busy at the same time:

- whoever writes gathers it; old content of what has not been saved yet begins to be read (old.py);
- one thread puts that into the undo log, and syncs the log;
- one thread, with helpers, then overwrites the slots, batch after batch.

The first batch for a slot destroys its identity blocks before anything else, so that a slot that
is half written can neither be mounted nor be taken for another.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import ExitStack, closing
from functools import partial
from typing import Final, Self, TypeVar

from builder.copying.direct import Reader, SlotWriter, Writer, buffer
from builder.copying.old import Coming, OldContent
from builder.copying.saved import Saved
from builder.vault.undoformat import LONGEST, LogSlot
from builder.vault.undolog import LogFile
from core import points
from core.errors import WriteFailed
from core.model.blockset import EMPTY, BlockSet
from core.threads import started

Step = TypeVar("Step")

ROOM: Final = 4 << 20
"""Bytes of writes that are gathered, for all slots together."""
_BATCHES: Final = 4
"""One is gathered, one waits for its old content, one is saved, one written to the slots."""
_PAGE: Final = 4096
_THREADS: Final = 8
"""Writes that are under way at the same time."""


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
        self.ranges: dict[int, BlockSet] = {}
        """What is written, by slot; known once it is closed."""
        self.destroys: dict[int, list[Coming]] = {}
        """Slots whose identity blocks it destroys, and what these hold."""
        self.old: list[Coming] = []
        """What it overwrites."""
        self.done: Future[Future[None]] | None = None
        """Once it is saved: when it will have landed."""

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

    def close(self) -> None:
        """It is full: find out what it writes."""
        places: dict[int, list[tuple[int, int]]] = {}
        for slot, offset, _place, length in self.writes:
            places.setdefault(slot, []).append((offset, offset + length))
        self.ranges = {slot: BlockSet.of(pairs) for slot, pairs in places.items()}

    @property
    def overlaps(self) -> bool:
        """Whether two writes concern the same blocks."""
        alone = sum(blocks.total for blocks in self.ranges.values())
        return alone < sum(length for *_, length in self.writes)

    def clear(self) -> None:
        self.writes.clear()
        self.destroys.clear()
        self.old.clear()
        self.used = 0
        self.done = None


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
        self._batch = _Batch()
        self._free = [_Batch() for _ in range(_BATCHES - 1)]
        self._under_way: deque[_Batch] = deque()
        """What was handed over, in order."""
        self._failed: BaseException | None = None
        # They are left, last one first, before the devices are closed.
        enter = self._stack.enter_context
        self._old = enter(OldContent())
        self._helpers = enter(started(_THREADS, "undo-write"))
        self._lander = enter(started(1, "undo-land"))
        self._saver = enter(started(1, "undo-save"))
        self.saved_bytes = 0
        """How much of the slots is in the log."""
        self.writers: dict[str, Writer] = {
            known.name: _SlotWriter(self, index) for index, (known, _path) in enumerate(slots)
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # What has not begun does not begin any more.
        self._failed = self._failed or WriteFailed("The writers of this update are closed.")
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
                self._hand_over()
            batch = self._batch
            piece = view[: len(batch.room) - batch.used]
            batch.room[batch.used : batch.used + len(piece)] = piece
            batch.note(slot, offset, len(piece))
            offset += len(piece)
            view = view[len(piece) :]

    def flush(self, slot: int) -> None:
        """Return when all that was gathered is on the slots, and on `slot` to stay."""
        self._hand_over()
        while self._under_way:
            self._free.append(self._wait())
        self._tell_failure()
        self._slots[slot].device.flush()

    # --- in the caller's thread -----------------------------------------------------------------

    def _hand_over(self) -> None:
        """Let the batch be saved and written; another one is gathered meanwhile."""
        self._tell_failure()
        batch = self._batch
        if not batch.writes:
            return
        batch.close()
        for index in batch.ranges:
            slot = self._slots[index]
            if not slot.destroyed:
                slot.destroyed = True
                batch.destroys[index] = self._begin_to_read(index, slot.identity)
        for index, blocks in batch.ranges.items():
            batch.old += self._begin_to_read(index, blocks)
        batch.done = self._saver.submit(self._guarded, self._save, batch)
        self._under_way.append(batch)
        self._batch = self._free.pop() if self._free else self._wait()

    def _begin_to_read(self, index: int, wanted: BlockSet) -> list[Coming]:
        """Read what is not saved yet: from now on it counts as saved, or nothing is written."""
        slot = self._slots[index]
        fresh = slot.saved.fresh(wanted)
        slot.saved.add(fresh)
        self.saved_bytes += fresh.total
        return [
            self._old.begin(index, slot.reader, some, identity=identity)
            for some, identity in (
                (fresh.minus(slot.identity), False),
                (fresh.intersect(slot.identity), True),
            )
            if some
        ]

    def _wait(self) -> _Batch:
        """Return the oldest batch, once it has landed. Raises what went wrong with it."""
        batch = self._under_way[0]
        if batch.done is not None:
            batch.done.result().result()
        self._under_way.popleft()
        batch.clear()
        return batch

    def _tell_failure(self) -> None:
        if self._failed is not None:
            raise self._failed

    # --- in threads of their own ----------------------------------------------------------------

    def _guarded(self, step: Callable[[_Batch], Step], batch: _Batch) -> Step:
        """Do this with a batch, unless anything went wrong before."""
        self._tell_failure()
        try:
            return step(batch)
        except BaseException as reason:
            self._failed = self._failed or reason
            raise

    def _save(self, batch: _Batch) -> "Future[None]":
        """Put into the log what the batch overwrites, sync that, let the slots be written."""
        for index, old in batch.destroys.items():
            self._log_all(old)
            self._destroy(self._slots[index])
        self._log_all(batch.old)
        return self._lander.submit(self._guarded, self._land, batch)

    def _log_all(self, old: Sequence[Coming]) -> None:
        for each in old:
            for slot, offset, identity, packed in each:
                self._log.take(slot, offset, packed, identity=identity)
        if old:
            self._log.sync()
            points.reach("undo-synced")

    def _destroy(self, slot: _Slot) -> None:
        """Overwrite a slot's identity blocks by zeros, and wait until that is on the disk."""
        for start, end in slot.identity.pieces(LONGEST):
            slot.device.write(start, buffer(end - start))
        slot.device.flush()
        slot.bare = slot.identity
        points.reach("destroyed")

    def _land(self, batch: _Batch) -> None:
        """Write the batch to the slots; at once where no two writes concern the same blocks."""
        jobs = [
            partial(self._slots[slot].device.write, offset, batch.room[place : place + length])
            for slot, offset, place, length in batch.writes
        ]
        count = 1 if batch.overlaps else _THREADS
        writing = [self._helpers.submit(_do, jobs[first::count]) for first in range(count)]
        wait(writing)
        for each in writing:
            each.result()
        for index, ranges in batch.ranges.items():
            if ranges.intersect(self._slots[index].bare):
                self._clothe(index, batch)
        points.reach("overwritten")

    def _clothe(self, index: int, batch: _Batch) -> None:
        """Note which identity blocks the batch wrote."""
        for slot, offset, place, length in batch.writes:
            # Zeros over a superblock are none.
            if slot == index and any(batch.room[place : place + length]):
                written = BlockSet.of([(offset, offset + length)])
                self._slots[slot].bare = self._slots[slot].bare.minus(written)


def _do(jobs: Sequence[Callable[[], None]]) -> None:
    for job in jobs:
        job()


class _SlotWriter:
    """The `Writer` of one slot."""

    def __init__(self, undo: Undo, slot: int) -> None:
        self._undo = undo
        self._slot = slot

    def write(self, offset: int, view: memoryview) -> None:
        self._undo.gather(self._slot, offset, view)

    def flush(self) -> None:
        self._undo.flush(self._slot)
