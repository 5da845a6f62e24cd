# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps the digests of a DPSR disk current while a run writes to it.

What is written passes through memory anyway, and what is compared, too: both are hashed there.
Nothing is read for it, but blocks of which only a part was written, and FAT slots at the first
time.
"""

import errno
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from builder.copying.copier import Equal
from builder.copying.direct import Reader, Writer, buffer
from builder.digests import format as form
from builder.digests import store
from builder.digests.blocks import BLOCK, Digested, in_blocks, newest, window, windows
from builder.digests.noted import Noted
from builder.digests.store import Stack
from builder.vault.undoformat import LogSlot
from core import points
from core.errors import WriteFailed
from core.files import sync_folder
from core.model.blockset import EMPTY, BlockSet
from core.model.manifest import DigestFile

_PIECE: Final = 1024
"""Blocks that are read at once."""
_GATHER: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a generation ought to vouch for of one slot, in bytes."""

    used: BlockSet
    """Of these, what was copied or compared; the rest holds nothing (never written)."""
    sure: BlockSet = EMPTY
    """These, whatever it takes: what is not known is read."""


class Keeper:
    """The digests of the generation that is being made.

    `slots`: all slots of the disk. `before`: the digests of the generation that they hold; None:
    there are none, so everything has to be written or compared.
    """

    def __init__(self, vault: Path, slots: Sequence[LogSlot], before: Stack | None = None) -> None:
        self._vault = vault
        self._slots = {slot.name: (index, slot) for index, slot in enumerate(slots)}
        self._before = before
        self._noted = Noted(vault)
        self._covered = {name: before.covered(name) if before else EMPTY for name in self._slots}

    @property
    def covered(self) -> frozenset[str]:
        """The slots of which there are digests from before."""
        return frozenset(name for name, blocks in self._covered.items() if blocks)

    def gave_up(self) -> bool:
        """There was no room for them: the generation has none, and is a good one all the same."""
        return self._noted.closed

    def close(self) -> None:
        self._noted.close()

    def forget(self, name: str) -> None:
        """Vouch for nothing of a slot that is not written, compared or read from now on."""
        self._covered[name] = EMPTY

    def make_room_by(self, more_room: Callable[[], bool]) -> None:
        """What is asked, by any thread, when the vault is full while the run goes on."""
        self._noted.more_room = more_room

    def writers(self, under: Mapping[str, Writer]) -> dict[str, Writer]:
        """Writers that note what they are given, and hand it on. They raise WriteFailed, too."""
        return {name: _Noting(partial(self._note, name), each) for name, each in under.items()}

    def equal(self, name: str) -> Equal:
        """Is told what a comparison found equal; the slot's digests are made from that."""
        size = self._slots[name][1].size
        every = BlockSet.of([(0, -(-size // BLOCK))])
        absent = BlockSet(every.minus(self._covered[name]).ranges * BLOCK)

        def note(batch: Sequence[tuple[int, int]], data: memoryview, differ: BlockSet) -> None:
            fresh = BlockSet.of(batch).minus(differ).intersect(absent)
            if not fresh:
                return
            starts = np.array([start for start, _ in batch])
            places = np.cumsum([0, *(end - start for start, end in batch)])
            for start, end in fresh:
                piece = int(np.searchsorted(starts, start, side="right")) - 1
                place = int(places[piece]) + start - int(starts[piece])
                self._note(name, start, data[place : place + end - start])

        return note

    def write(
        self,
        txid: str,
        disk_guid: str,
        wanted: Mapping[str, Wanted],
        path: Callable[[str], str],
        more_room: Callable[[], bool] = lambda: False,
    ) -> tuple[DigestFile, ...]:
        """Write the new generation's file, durably; returns what its manifest is to name.

        That is nothing when digests from before turn out to be damaged, or there is no room.
        `wanted` by name of the slot; one that is not named keeps what it covers. All writers were
        flushed before. `path`: the device of a slot, by its name. `more_room` as in LogFile.
        Raises WriteFailed, ReadFailed.
        """
        if self.gave_up():
            return ()
        header = form.Header(txid, disk_guid, tuple(slot for _, slot in self._slots.values()))
        try:
            self._noted.settle()
            for name, each in wanted.items():
                self._read_missing(name, each.sure, path(name))
                if self.gave_up():
                    return ()
            self._noted.settle()
            taken = self._before.worth_taking_in(self._noted.count) if self._before else 0
            while True:
                try:
                    return self._write(header, wanted, taken)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                if taken:
                    taken = 0  # it is shorter then
                elif not more_room():
                    self._noted.close()
                    (self._vault / store.file_name(txid)).unlink(missing_ok=True)
                    return ()
        except form.Damaged:
            return ()  # no reason to go without a backup: the next one makes them anew
        except OSError as error:
            raise WriteFailed(
                f"The digests cannot be written to the vault: {error.strerror}."
            ) from error

    def _note(self, name: str, offset: int, view: memoryview) -> None:
        if self.gave_up():
            return
        index, slot = self._slots[name]
        try:
            self._noted.add(index, offset, view, slot.size)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                self._noted.close()  # what they take up already is room for the undo log
                return
            raise WriteFailed(f"The vault cannot be written: {error.strerror}.") from error

    def _read_missing(self, name: str, sure: BlockSet, device: str) -> None:
        """Read what ought to be known, but was not seen as a whole."""
        index, slot = self._slots[name]
        missing = in_blocks(sure).minus(self._covered[name])
        if missing:
            missing = missing.minus(self._known(index, missing))
        missing = missing.union(self._noted.unsure(index))
        if not missing:
            return
        with closing(Reader(device)) as reader:
            room = buffer(_PIECE * BLOCK)
            for first, end in missing.pieces(_PIECE):
                start, stop = first * BLOCK, min(end * BLOCK, slot.size)
                view = room[: stop - start]
                reader.read_into(start, view)
                self._note(name, start, view)

    def _known(self, index: int, blocks: BlockSet) -> BlockSet:
        parts = [self._noted.window(index, number).ranges for number in windows(blocks)]
        return EMPTY.union(*parts)

    def _write(
        self, header: form.Header, wanted: Mapping[str, Wanted], taken: int
    ) -> tuple[DigestFile, ...]:
        path = self._vault / store.file_name(header.txid)
        path.unlink(missing_ok=True)
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            found = self._put(_Out(file), header, wanted, taken)
            _sync(file)
        finally:
            os.close(file)
        sync_folder(self._vault)
        points.reach("digests-written")
        older = self._before.files[taken:] if self._before else []
        return (DigestFile(path.name, found), *(each.known for each in older))

    def _put(
        self, out: "_Out", header: form.Header, wanted: Mapping[str, Wanted], taken: int
    ) -> str:
        seed = form.seed(header.txid)
        first = form.encode_header(header)
        out.put(first)
        heads = [first]
        for name, (index, slot) in self._slots.items():
            asked = wanted.get(name)
            limit = in_blocks(asked.used.union(asked.sure).within(slot.size)) if asked else None
            kept = self._covered[name]
            kept = kept if limit is None else kept.intersect(limit)
            noted = self._noted.windows(index)
            for number in sorted(windows(kept) | noted):
                fresh = self._noted.window(index, number)
                if limit is not None:
                    fresh = fresh.within(limit)
                covered = window(kept, number).union(fresh.ranges)
                if not covered:
                    continue
                if taken and self._before:
                    old = _merged(self._before, taken, name, number)
                    fresh = newest((fresh, old)).within(covered)
                head, content = form.encode_section(index, number, covered, fresh, seed)
                out.put(head + content)
                heads.append(head)
        heads.append(form.encode_seal(seed))
        out.put(heads[-1])
        out.drain()
        return form.hash_of(heads)


def _merged(before: Stack, count: int, name: str, number: int) -> Digested:
    try:
        return before.merged(count, name, number)
    except OSError as error:
        raise form.Damaged(f"They cannot be read: {error.strerror}.") from error


def _sync(file: int) -> None:
    os.fsync(file)


class _Out:
    """Gathers what is written to a file, one part behind the other."""

    def __init__(self, file: int) -> None:
        self._file = file
        self._parts: list[bytes] = []
        self._size = 0
        self._end = 0

    def put(self, data: bytes) -> None:
        self._parts.append(data)
        self._size += len(data)
        if self._size >= _GATHER:
            self.drain()

    def drain(self) -> None:
        view = memoryview(b"".join(self._parts))
        self._parts, self._size = [], 0
        while view:
            done = os.pwrite(self._file, view, self._end)
            self._end += done
            view = view[done:]


@dataclass(frozen=True, slots=True)
class _Noting:
    """A writer of one slot."""

    note: Callable[[int, memoryview], None]
    under: Writer

    def write(self, offset: int, view: memoryview) -> None:
        self.note(offset, view)
        self.under.write(offset, view)

    def flush(self) -> None:
        self.under.flush()
