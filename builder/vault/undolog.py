# SPDX-License-Identifier: GPL-3.0-or-later
"""The undo log that is being written while an update runs; `undoread` reads it.

What is appended counts once `sync` has returned; only then may the slots be overwritten.
"""

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, NoReturn, TypeVar

from builder.vault.undoformat import (
    IDENTITY,
    RAW,
    SEAL,
    Header,
    Record,
    encode_header,
    encode_record,
    seed_of,
)
from core.errors import WriteFailed
from core.errors.system import reason_of
from core.files import sync_folder

STEP: Final = 16 << 20
"""Room is reserved in steps of this many bytes."""
_GATHER: Final = 1 << 20
"""Records are handed to the kernel in lots of about this many bytes."""
_AT_ONCE: Final = 1000
"""Parts that the kernel takes in one call (IOV_MAX: 1024)."""
_LEVEL: Final = 1
"""Of zstd: as quick as the disk, and what is not logged need not be written to the same disk."""


Result = TypeVar("Result")


class NoRoom(Exception):
    """The vault is full, and nothing is left to drop. `str()` is the file's path."""


def file_name(txid: str) -> str:
    """Name of a transaction's undo log in the vault, from its beginning to its end."""
    return f"undo-{txid}.part"


@dataclass(frozen=True, slots=True)
class Packed:
    """Content as a record stores it."""

    length: int
    """Bytes, as the slot has it."""
    data: bytes
    flags: int


class Packer:
    """Makes content smaller where it can; each thread needs one of its own."""

    def __init__(self) -> None:
        import zstandard

        self._compress = zstandard.ZstdCompressor(
            level=_LEVEL, write_checksum=False, write_content_size=True
        ).compress

    def __call__(self, piece: memoryview) -> Packed:
        """At most `LONGEST` bytes; `piece` belongs to the caller again."""
        data = self._compress(piece)
        if len(data) > len(piece) - len(piece) // 8:
            return Packed(len(piece), bytes(piece), RAW)
        return Packed(len(piece), data, 0)


class LogFile:
    """An undo log that is being written. Raises WriteFailed, NoRoom.

    `more_room` is called when the file system is full: it makes room and says True, or False.
    After a failure nothing more is taken: the kernel may have dropped what it could not write.
    """

    def __init__(self, path: Path, header: Header, more_room: Callable[[], bool]) -> None:
        self._path = path
        self._seed = seed_of(header.txid)
        self._more_room = more_room
        self._parts: list[bytes] = []
        self._gathered = 0
        self._end = 0
        self._reserved = 0
        self._records = 0
        self._synced_records = 0
        self._broken = False
        self.synced = 0
        """How long the part of the file is that outlasts a power cut, in bytes."""
        self._file = self._create()
        try:
            self._put(encode_header(header))
            self.sync()
            self._try(lambda: sync_folder(path.parent))
        except BaseException:
            os.close(self._file)
            path.unlink(missing_ok=True)
            raise

    @property
    def size(self) -> int:
        """Bytes that the log has so far."""
        return self._end + self._gathered

    def take(self, slot: int, offset: int, packed: Packed, *, identity: bool) -> None:
        """Save what the slot holds at `offset`."""
        flags = packed.flags | (IDENTITY if identity else 0)
        self._record(slot, flags, packed.length, offset, packed.data)

    def sync(self) -> None:
        """Return when all records would outlast a power cut."""
        self._drain()
        self._try(lambda: os.fdatasync(self._file))
        self.synced = self._end
        self._synced_records = self._records

    def seal(self) -> None:
        """Say that the log is complete, give back the room it does not need."""
        self._record(0, SEAL, 0, 0, b"")
        self.sync()
        self._try(lambda: os.ftruncate(self._file, self._end))
        self._try(lambda: os.fsync(self._file))

    def close(self) -> None:
        os.close(self._file)

    def _create(self) -> int:
        how = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        while True:
            try:
                return os.open(self._path, how, 0o600)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise WriteFailed(
                        f"{self._path} cannot be made: {reason_of(error)}."
                    ) from error
                if not self._more_room():
                    raise NoRoom(str(self._path)) from None

    def _record(self, slot: int, flags: int, length: int, offset: int, data: bytes) -> None:
        record = Record(self._records, slot, flags, length, offset, len(data), self._synced_records)
        self._put(encode_record(record, data, self._seed))
        self._put(data)
        self._records += 1

    def _put(self, data: bytes) -> None:
        self._parts.append(data)
        self._gathered += len(data)
        if self._gathered >= _GATHER:
            self._drain()

    def _drain(self) -> None:
        if self._broken:
            raise WriteFailed(f"{self._path} could not be written before.")
        parts, self._parts = [memoryview(part) for part in self._parts], []
        self._reserve(self._end + self._gathered)
        self._gathered = 0
        first = 0
        while first < len(parts):
            some = parts[first : first + _AT_ONCE]
            done = self._try(partial(os.pwritev, self._file, some, self._end))
            self._end += done
            while first < len(parts) and done >= len(parts[first]):
                done -= len(parts[first])
                first += 1
            if done:
                parts[first] = parts[first][done:]

    def _reserve(self, end: int) -> None:
        if end <= self._reserved:
            return
        for wanted in (end + STEP - end % STEP, end):
            if self._allocate(wanted):
                return
        while self._more_room():
            if self._allocate(end):
                return
        self._broken = True
        raise NoRoom(str(self._path))

    def _allocate(self, end: int) -> bool:
        """Extend the file to `end` bytes, of zeros; False when there is no room for that."""
        try:
            os.posix_fallocate(self._file, self._reserved, end - self._reserved)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                self._fail(error)
            return False
        self._reserved = end
        return True

    def _try(self, act: Callable[[], Result]) -> Result:
        try:
            return act()
        except OSError as error:
            self._fail(error)

    def _fail(self, error: OSError) -> NoReturn:
        self._broken = True
        if error.errno == errno.ENOSPC:  # room that was reserved, too, can turn out to be missing
            raise NoRoom(str(self._path)) from error
        raise WriteFailed(f"{self._path} cannot be written: {reason_of(error)}.") from error
