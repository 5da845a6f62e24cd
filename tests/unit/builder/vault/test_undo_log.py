# SPDX-License-Identifier: GPL-3.0-or-later
"""The undo log is read back as written; torn it ends, damaged it is refused."""

import os
import random
from dataclasses import replace
from pathlib import Path

import pytest

from builder.vault import undolog
from builder.vault.undoformat import (
    HEAD_SIZE,
    IDENTITY,
    LONGEST,
    RAW,
    RECORD_SIZE,
    Header,
    LogSlot,
    decode_header,
    encode_header,
)
from builder.vault.undolog import LogFile, NoRoom, Packer
from builder.vault.undoread import UndoLog
from core.errors import UndoLogDamaged, UnknownFormat, WriteFailed
from core.model.state import State
from tests.support.data import DATA

SAMPLE = DATA / "formats" / "undo-v1.part"

HEADER = Header(
    txid="00112233445566778899aabbccddeeff",
    name="system",
    disk_guid="11111111-2222-3333-4444-555555555555",
    before=State(
        "clean",
        gen=4,
        taken="2026-11-22T18:00:00+00:00",
        txid="f" * 32,
        slot="1234-ABCD",
        extra=(("later", "kept"),),
    ),
    generation=5,
    parent="ab" * 16,
    slots=(LogSlot("root", 3, 1 << 30, 1 << 31), LogSlot("home", 4, 1 << 32, 1 << 20)),
)
NOISE = random.Random(1).randbytes(256)
SAVED = (
    (0, 0, b"super" * 100 + bytes(12), True),
    (1, 4096, bytes(4096), False),
    (0, 1 << 20, NOISE, False),
)
"""Slot, offset, content, identity."""


def never() -> bool:
    return False


def append(log: LogFile, slot: int, offset: int, content: memoryview, *, identity: bool) -> None:
    """As the writers of an update do it: records of at most LONGEST bytes."""
    for at in range(0, len(content), LONGEST):
        log.take(slot, offset + at, Packer()(content[at : at + LONGEST]), identity=identity)


def make(path: Path, *, seal: bool = True) -> Path:
    """Each record synced on its own."""
    log = LogFile(path, HEADER, never)
    for slot, offset, content, identity in SAVED:
        append(log, slot, offset, memoryview(content), identity=identity)
        log.sync()
    if seal:
        log.seal()
    log.close()
    return path


def read(path: Path, *, need_seal: bool = False) -> list[tuple[int, int, bytes, bool]]:
    with UndoLog(path) as log:
        assert log.header == HEADER
        return [
            (found.record.slot, found.record.offset, log.content(found), found.identity)
            for found in log.records(need_seal=need_seal)
        ]


def test_a_log_is_read_back_as_written(tmp_path: Path) -> None:
    assert read(make(tmp_path / "log"), need_seal=True) == list(SAVED)
    with UndoLog(tmp_path / "log") as log:
        flags = [found.record.flags for found in log.records()]
    assert flags == [IDENTITY, 0, RAW]


def test_version_1_stays_readable() -> None:
    assert read(SAMPLE, need_seal=True) == list(SAVED)


def test_a_sealed_log_has_no_room_left(tmp_path: Path) -> None:
    size = make(tmp_path / "log").stat().st_size
    assert size < 2000
    assert make(tmp_path / "open", seal=False).stat().st_size >= 1 << 20


def test_what_is_long_is_cut_into_records(tmp_path: Path) -> None:
    content = random.Random(2).randbytes(2 * LONGEST + 512)
    log = LogFile(tmp_path / "log", HEADER, never)
    append(log, 0, 512, memoryview(content), identity=False)
    log.seal()
    log.close()
    found = read(tmp_path / "log", need_seal=True)
    assert b"".join(piece for _slot, _offset, piece, _identity in found) == content
    assert [offset for _slot, offset, _piece, _identity in found] == [
        512, 512 + LONGEST, 512 + 2 * LONGEST
    ]  # fmt: skip


@pytest.mark.parametrize("most", [1, 100, 5000, 1 << 20])
def test_a_write_that_ends_early_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """The kernel may take any part of what it is given."""
    real = os.pwritev
    taken: list[int] = []

    def some(file: int, parts: list[memoryview], at: int) -> int:
        data = b"".join(parts)[:most]
        taken.append(real(file, [data], at))
        return taken[-1]

    dice = random.Random(3)
    monkeypatch.setattr(os, "pwritev", some)
    monkeypatch.setattr(undolog, "_AT_ONCE", 7)
    log = LogFile(tmp_path / "log", HEADER, never)
    saved = [(0, at << 16, dice.randbytes(dice.randrange(512, 1500)), False) for at in range(20)]
    for slot, offset, content, identity in saved:
        append(log, slot, offset, memoryview(content), identity=identity)
    log.seal()
    log.close()
    assert len(taken) > 2
    assert read(tmp_path / "log", need_seal=True) == saved


def ends(path: Path) -> list[int]:
    """Where each record ends."""
    with UndoLog(path) as log:
        return [found.end for found in log.records()]


@pytest.mark.parametrize("filled", [True, False], ids=["zeros behind", "nothing behind"])
def test_torn_at_any_byte_it_ends_there(tmp_path: Path, filled: bool) -> None:
    whole = make(tmp_path / "log").read_bytes()
    places = ends(tmp_path / "log")
    torn = tmp_path / "torn"
    first = HEAD_SIZE + len(encode_header(HEADER)) - HEAD_SIZE
    for cut in range(first, len(whole)):
        data = whole[:cut]
        torn.write_bytes(data + bytes(len(whole) - cut + 512) if filled else data)
        # A cut within zeros at a record's end is none when zeros follow.
        assert len(read(torn)) >= sum(end <= cut for end in places)
        assert read(torn) == list(SAVED[: len(read(torn))])
        with pytest.raises(UndoLogDamaged):
            read(torn, need_seal=True)


def test_torn_within_its_header_it_is_none(tmp_path: Path) -> None:
    whole = make(tmp_path / "log").read_bytes()
    for cut in range(len(encode_header(HEADER))):
        (tmp_path / "torn").write_bytes(whole[:cut] + bytes(600))
        with pytest.raises((UndoLogDamaged, UnknownFormat)):
            read(tmp_path / "torn")


def test_damage_at_any_byte_is_seen(tmp_path: Path) -> None:
    """Each record was on the disk before the next was made: a hole is no torn end."""
    whole = make(tmp_path / "log").read_bytes()
    seal = ends(tmp_path / "log")[-1]
    for at in range(seal):
        data = bytearray(whole)
        data[at] ^= 1 << at % 8
        (tmp_path / "bad").write_bytes(data)
        with pytest.raises((UndoLogDamaged, UnknownFormat)):
            read(tmp_path / "bad")
    for at in range(seal, len(whole)):
        data = bytearray(whole)
        data[at] ^= 1 << at % 8
        (tmp_path / "bad").write_bytes(data)
        assert read(tmp_path / "bad") == list(SAVED)
        with pytest.raises(UndoLogDamaged):
            read(tmp_path / "bad", need_seal=True)


def test_a_batch_that_was_not_synced_may_have_holes(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "log", HEADER, never)
    for slot, offset, content, identity in SAVED:
        append(log, slot, offset, memoryview(content), identity=identity)
    log.sync()
    log.close()
    data = bytearray((tmp_path / "log").read_bytes())
    data[ends(tmp_path / "log")[0] + RECORD_SIZE + 1] ^= 1
    (tmp_path / "log").write_bytes(data)
    assert read(tmp_path / "log") == list(SAVED[:1])


def test_records_of_another_log_do_not_count(tmp_path: Path) -> None:
    whole = make(tmp_path / "log").read_bytes()
    other = encode_header(replace(HEADER, txid="1" * 32))
    (tmp_path / "log").write_bytes(other + whole[len(encode_header(HEADER)) :])
    with UndoLog(tmp_path / "log") as log:
        assert list(log.records()) == []


def test_a_later_version_is_refused() -> None:
    data = bytearray(encode_header(HEADER))
    data[8] = 2
    with pytest.raises(UnknownFormat):
        decode_header(bytes(data), "log")


def test_a_record_outside_its_slot_is_damage(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "log", HEADER, never)
    append(log, 1, (1 << 20) - 512, memoryview(bytes(1024)), identity=False)
    log.seal()
    log.close()
    with pytest.raises(UndoLogDamaged):
        read(tmp_path / "log")


def test_a_log_is_never_made_over_another(tmp_path: Path) -> None:
    make(tmp_path / "log")
    with pytest.raises(WriteFailed):
        LogFile(tmp_path / "log", HEADER, never)
    assert read(tmp_path / "log") == list(SAVED)


def full(monkeypatch: pytest.MonkeyPatch, room: list[int]) -> None:
    """A file system with that much room."""
    import errno
    import os

    real = os.posix_fallocate

    def allocate(file: int, offset: int, length: int) -> None:
        if offset + length > room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(file, offset, length)

    monkeypatch.setattr(os, "posix_fallocate", allocate)


def test_room_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room = [len(encode_header(HEADER))]
    full(monkeypatch, room)
    asked = []

    def more() -> bool:
        asked.append(1)
        room[0] += 140
        return True

    log = LogFile(tmp_path / "log", HEADER, more)
    assert not asked
    append(log, 0, 0, memoryview(NOISE), identity=False)
    log.seal()
    log.close()
    assert len(asked) == 3


def test_without_room_it_takes_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full(monkeypatch, [len(encode_header(HEADER))])
    log = LogFile(tmp_path / "log", HEADER, never)
    append(log, 0, 0, memoryview(NOISE), identity=False)
    with pytest.raises(NoRoom):
        log.sync()
    with pytest.raises(WriteFailed):
        log.seal()
    log.close()


def test_without_room_for_its_header_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full(monkeypatch, [10])
    with pytest.raises(NoRoom):
        LogFile(tmp_path / "log", HEADER, never)
    assert not list(tmp_path.iterdir())
