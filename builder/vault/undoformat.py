# SPDX-License-Identifier: GPL-3.0-or-later
"""The undo log's bytes, written and read; see docs/on-disk-format.md. Pure.

Header, then records, each with a checksum that the transaction's id goes into, so that no
record of another log is ever taken for one of this. The first record that is torn ends the log.
"""

import json
import struct
from dataclasses import dataclass
from typing import Final

from core.errors import UndoLogDamaged, UnknownFormat
from core.model.plain import from_plain, to_plain
from core.model.state import State

VERSION: Final = 1
MAGIC: Final = b"DPSRUNDO"
RECORD_MAGIC: Final = b"\xd5Rec"
LONGEST: Final = 1 << 20
"""Bytes of a slot that one record saves at most."""
HEADER_MOST: Final = 1 << 20

IDENTITY: Final = 1
"""Flag: the record saves identity blocks, which come back last."""
RAW: Final = 2
"""Flag: the data is stored as it is, since it does not get smaller."""
SEAL: Final = 4
"""Flag: the last record of a log that is complete; saves nothing."""

_HEAD: Final = struct.Struct("<8sII")
_RECORD: Final = struct.Struct("<4sIHHIQII")
_SUM: Final = struct.Struct("<Q")
HEAD_SIZE: Final = _HEAD.size + _SUM.size
RECORD_SIZE: Final = _RECORD.size + _SUM.size


@dataclass(frozen=True, slots=True)
class LogSlot:
    """A slot as the log knows it: partition number, start and size in bytes."""

    name: str
    number: int
    start: int
    size: int


@dataclass(frozen=True, slots=True)
class Header:
    """What an undo log says of itself."""

    txid: str
    """The transaction that it protects: 32 hex digits."""
    name: str
    """Of the backup set."""
    disk_guid: str
    before: State
    """The state that it leads back to; `clean`."""
    generation: int
    """The generation that the transaction makes."""
    parent: str
    """xxh3-128 of the bytes of the manifest that it leads back to, in hex; empty if none."""
    slots: tuple[LogSlot, ...]


@dataclass(frozen=True, slots=True)
class Record:
    """Where one record's old content belongs. All numbers but `sequence` are bytes."""

    sequence: int
    slot: int
    """Index into the header's slots."""
    flags: int
    length: int
    offset: int
    stored: int
    """How long the data is in the log."""
    synced: int
    """How many records of the log were on the disk when this one was made."""


def seed_of(txid: str) -> int:
    """What goes into the checksums of this transaction's records."""
    return int(txid[:16], 16)


def encode_header(header: Header) -> bytes:
    """The bytes at a log's beginning, up to the first record."""
    body = json.dumps(to_plain(header), sort_keys=True).encode()
    head = _HEAD.pack(MAGIC, VERSION, len(body))
    return head + _SUM.pack(_checksum(0, head, body)) + body


def decode_header(data: bytes, where: str) -> tuple[Header, int]:
    """The header at the start of `data`, and its length in bytes.

    Raises UnknownFormat (a version that this one does not know), UndoLogDamaged.
    """
    if len(data) < HEAD_SIZE or not data.startswith(MAGIC):
        raise UndoLogDamaged(f"{where} is no undo log.")
    _, version, length = _HEAD.unpack_from(data)
    if version != VERSION:
        raise UnknownFormat(f"{where} has a format that this version of dpsr does not know.")
    body = data[HEAD_SIZE : HEAD_SIZE + length]
    (wanted,) = _SUM.unpack_from(data, _HEAD.size)
    if len(body) != length or _checksum(0, data[: _HEAD.size], body) != wanted:
        raise UndoLogDamaged(f"The header of {where} is damaged.")
    try:
        return from_plain(Header, json.loads(body)), HEAD_SIZE + length
    except ValueError as reason:
        raise UndoLogDamaged(f"The header of {where} makes no sense: {reason}.") from None


def encode_record(record: Record, data: bytes | memoryview, seed: int) -> bytes:
    """The bytes of a record before its data."""
    head = _RECORD.pack(
        RECORD_MAGIC,
        record.sequence,
        record.slot,
        record.flags,
        record.length,
        record.offset,
        record.stored,
        record.synced,
    )
    return head + _SUM.pack(_checksum(seed, head, data))


def decode_record(head: bytes) -> Record | None:
    """A record from its first `RECORD_SIZE` bytes, not yet checked; nothing if it is none."""
    if len(head) < RECORD_SIZE or not head.startswith(RECORD_MAGIC):
        return None
    _, sequence, slot, flags, length, offset, stored, synced = _RECORD.unpack_from(head)
    if max(length, stored) > LONGEST or flags & ~(IDENTITY | RAW | SEAL):
        return None
    return Record(sequence, slot, flags, length, offset, stored, synced)


def is_whole(head: bytes, data: bytes, seed: int) -> bool:
    """Whether a record and its data are as they were written."""
    (wanted,) = _SUM.unpack_from(head, _RECORD.size)
    return bool(_checksum(seed, head[: _RECORD.size], data) == wanted)


def _checksum(seed: int, head: bytes, data: bytes | memoryview) -> int:
    import xxhash

    total = xxhash.xxh3_64(head, seed=seed)
    total.update(data)
    return int(total.intdigest())
