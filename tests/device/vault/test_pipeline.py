# SPDX-License-Identifier: GPL-3.0-or-later
"""One batch is written to the slots while the next is saved, and never before its own is."""

import threading
from pathlib import Path
from typing import Any

import pytest

from builder.copying import undo
from builder.copying.direct import SlotWriter, Writer
from builder.vault import replay
from builder.vault.undolog import LogFile
from builder.vault.undoread import UndoLog
from core.errors import WriteFailed
from core.signals import Ended
from tests.support.vault_disk import BLOCK, SIZE, VaultDisk, no_change, put

PLACES = [at * BLOCK for at in range(1, 10)]
"""Of the slot `root`; no superblock among them."""


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> VaultDisk:
    monkeypatch.setattr(undo, "ROOM", 2 * BLOCK)
    return VaultDisk.make(tmp_path)


def put_all(writer: Writer) -> None:
    for at in PLACES:
        put(writer, at, b"n" * BLOCK)


def test_the_next_batch_is_saved_while_one_is_written(
    disk: VaultDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first write of content waits here until the batch behind it is saved."""
    synced = threading.Semaphore(0)
    sync, write = LogFile.sync, SlotWriter.write
    waited: list[bool] = []

    def noted(self: LogFile) -> None:
        sync(self)
        synced.release()

    def held(self: SlotWriter, offset: int, view: memoryview) -> None:
        if offset == PLACES[0]:  # superblocks, this batch, the next one
            waited.extend(synced.acquire(timeout=60) for _ in range(3))
        write(self, offset, view)

    with no_change(disk), disk.transaction() as running:
        writers = running.begin(SIZE)
        with monkeypatch.context() as patch:
            patch.setattr(LogFile, "sync", noted)
            patch.setattr(SlotWriter, "write", held)
            put_all(writers["root"])
            writers["root"].flush()
    assert waited == [True] * 3


def test_what_is_overwritten_is_in_the_log_on_the_disk(
    disk: VaultDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each write the log, up to what was synced, holds the old content of that place."""
    before = disk.content["root"]
    write = SlotWriter.write
    seen: list[int] = []

    def checked(self: SlotWriter, offset: int, view: memoryview) -> None:
        if any(view):  # zeros come when the transaction goes back, and over superblocks
            (path,) = disk.vault.glob("undo-*.part")
            assert running._log is not None
            with UndoLog(path, until=running._log.synced) as log:
                old = {
                    found.record.offset: log.content(found)
                    for found in log.records()
                    if found.record.slot == 0
                }
            covered = b"".join(
                data for at, data in sorted(old.items()) if offset <= at < offset + len(view)
            )
            assert covered == before[offset : offset + len(view)]
            seen.append(offset)
        write(self, offset, view)

    with no_change(disk), disk.transaction() as running:
        writers = running.begin(SIZE)
        with monkeypatch.context() as patch:
            patch.setattr(SlotWriter, "write", checked)
            put_all(writers["root"])
            writers["root"].flush()
    assert sorted(seen) == PLACES[::2]


def test_a_write_that_failed_is_told_with_the_next_batch_and_by_flush(
    disk: VaultDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = SlotWriter.write

    def failing(self: SlotWriter, offset: int, view: memoryview) -> None:
        if offset == PLACES[0] and any(view):
            raise WriteFailed("no more")
        write(self, offset, view)

    with no_change(disk), disk.transaction() as running:
        writers = running.begin(SIZE)
        with monkeypatch.context() as patch:
            patch.setattr(SlotWriter, "write", failing)
            with pytest.raises(WriteFailed, match="no more"):
                put_all(writers["root"])
            for _ in range(2):
                with pytest.raises(WriteFailed, match="no more"):
                    writers["root"].flush()
            with pytest.raises(WriteFailed, match="no more"):
                writers["home"].flush()


def test_batches_that_overwrite_each_other_land_in_order(
    disk: VaultDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = SlotWriter.write
    slow = threading.Event()

    def held(self: SlotWriter, offset: int, view: memoryview) -> None:
        if bytes(view[:1]) == b"a":
            slow.wait(0.2)
        write(self, offset, view)

    with no_change(disk), disk.transaction() as running:
        writers = running.begin(SIZE)
        with monkeypatch.context() as patch:
            patch.setattr(SlotWriter, "write", held)
            for filler in (b"a", b"b", b"a", b"c"):
                put(writers["root"], 3 * BLOCK, filler * BLOCK)
                put(writers["root"], 4 * BLOCK, filler * BLOCK)
            writers["root"].flush()
        assert disk.content["root"][3 * BLOCK : 5 * BLOCK] == b"c" * 2 * BLOCK


def test_no_write_is_under_way_when_the_slots_go_back(
    disk: VaultDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that takes long is waited for; one that was not would see the replay begin."""
    going_back, under_way = threading.Event(), threading.Event()
    write = SlotWriter.write
    seen: list[bool] = []

    def held(self: SlotWriter, offset: int, view: memoryview) -> None:
        if offset == PLACES[0] and not seen:
            under_way.set()
            seen.append(going_back.wait(1))
        write(self, offset, view)

    def replayed(*logs: Any, **how: Any) -> None:
        going_back.set()
        replay.replay(*logs, **how)

    def interrupted() -> None:
        with disk.transaction() as running:
            writer = running.begin(SIZE)["root"]
            monkeypatch.setattr(SlotWriter, "write", held)
            put(writer, PLACES[0], b"n" * 2 * BLOCK)
            put(writer, PLACES[4], b"n" * BLOCK)  # which hands over the batch before
            assert under_way.wait(60)
            raise Ended(15)

    monkeypatch.setattr("builder.vault.transaction.replay", replayed)
    with no_change(disk), pytest.raises(Ended):
        interrupted()
    assert seen == [False]
