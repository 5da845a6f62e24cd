# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads an undo log back. It imports no numpy: the rescue system has little room.

The first bad record of a log that is not sealed is its end: it was torn by a power cut, and
nothing behind it was overwritten. Unless a later record shows that it had been on the disk:
then the vault has lost something, and the log cannot be trusted.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from builder.vault.undoformat import (
    HEAD_SIZE,
    HEADER_MOST,
    IDENTITY,
    RAW,
    RECORD_MAGIC,
    RECORD_SIZE,
    SEAL,
    Record,
    decode_header,
    decode_record,
    is_whole,
    seed_of,
)
from core.errors import UndoLogDamaged
from core.errors.system import reason_of

_WINDOW: Final = 4 << 20


@dataclass(frozen=True, slots=True)
class Found:
    """A whole record, and where in the file its data begins."""

    record: Record
    at: int

    @property
    def end(self) -> int:
        """Where the next record begins."""
        return self.at + self.record.stored

    @property
    def identity(self) -> bool:
        """Whether it saves identity blocks."""
        return bool(self.record.flags & IDENTITY)


class UndoLog:
    """One log, read only; a context manager.

    `until` says how many bytes of it count, for a log whose end is not on the disk yet. Raises
    UndoLogDamaged, also when the file is not there; UnknownFormat.
    """

    def __init__(self, path: Path, until: int | None = None) -> None:
        self._path = path
        try:
            self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise UndoLogDamaged(f"{path} cannot be opened: {reason_of(error)}.") from error
        try:
            size = os.fstat(self._file).st_size
            self._size = size if until is None else min(size, until)
            start = self._read(0, HEADER_MOST + HEAD_SIZE)
            self.header, self._first = decode_header(start, str(path))
        except BaseException:
            os.close(self._file)
            raise
        self._seed = seed_of(self.header.txid)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def sync(self) -> None:
        """Return when what is read would outlast a power cut, too. Raises UndoLogDamaged."""
        try:
            os.fsync(self._file)
        except OSError as error:
            raise UndoLogDamaged(f"{self._path} cannot be kept: {reason_of(error)}.") from error

    def records(self, *, need_seal: bool = False) -> Iterator[Found]:
        """The whole records in order, each checked. Raises UndoLogDamaged at the end of the log.

        With `need_seal` a log that is not complete is damaged, too.
        """
        at = self._first
        count = 0
        while found := self._record(at):
            if found.record.sequence != count or not self._fits(found.record):
                raise UndoLogDamaged(f"{self._path} makes no sense at byte {at}.")
            if found.record.flags & SEAL:
                return
            yield found
            at = found.end
            count += 1
        if need_seal or self._goes_on(at, count):
            raise UndoLogDamaged(f"{self._path} is damaged at byte {at}.")

    def content(self, found: Found) -> bytes:
        """What the slot held: `record.length` bytes."""
        import zstandard

        data = self._read(found.at, found.record.stored)
        if not found.record.flags & RAW:
            try:
                most = found.record.length
                data = zstandard.ZstdDecompressor().decompress(data, max_output_size=most)
            except zstandard.ZstdError as error:
                raise UndoLogDamaged(f"{self._path} is damaged: {error}.") from error
        if len(data) != found.record.length:
            raise UndoLogDamaged(f"{self._path} is damaged at byte {found.at}.")
        return data

    def _record(self, at: int) -> Found | None:
        """The record that begins at byte `at`, when it is whole."""
        head = self._read(at, RECORD_SIZE)
        record = decode_record(head)
        if record is None or at + RECORD_SIZE + record.stored > self._size:
            return None
        data = self._read(at + RECORD_SIZE, record.stored)
        return Found(record, at + RECORD_SIZE) if is_whole(head, data, self._seed) else None

    def _fits(self, record: Record) -> bool:
        slots = self.header.slots
        return record.slot < len(slots) and record.offset + record.length <= slots[record.slot].size

    def _goes_on(self, at: int, count: int) -> bool:
        """Whether a record behind byte `at` was made when more than `count` were on the disk."""
        while at < self._size:
            window = self._read(at, _WINDOW)
            place = window.find(RECORD_MAGIC)
            while place >= 0:
                found = self._record(at + place)
                if found and found.record.synced > count:
                    return True
                place = window.find(RECORD_MAGIC, place + 1)
            at += max(len(window) - len(RECORD_MAGIC) + 1, 1)
        return False

    def _read(self, at: int, size: int) -> bytes:
        try:
            size = max(min(size, self._size - at), 0)
            parts = []
            while size > 0:
                part = os.pread(self._file, size, at)
                if not part:
                    break
                parts.append(part)
                at += len(part)
                size -= len(part)
            return b"".join(parts)
        except OSError as error:
            raise UndoLogDamaged(f"{self._path} cannot be read: {reason_of(error)}.") from error
