# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong in the middle: the disk says the truth, and the person hears it."""

import errno
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from builder.copying import undo
from builder.copying.direct import SlotWriter
from builder.vault import chain, replay, transaction
from core.errors import (
    CopyDiffers,
    ReadFailed,
    StateUnreadable,
    WriteFailed,
)
from core.model.state import State
from core.screen import moment
from core.signals import Ended, unwinding
from grub import state as state_block
from tests.support.vault_disk import (
    NAMES,
    SIZE,
    VaultDisk,
    broken_update,
    manifest_of,
    next_content,
    no_change,
    put,
    write_content,
)


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> VaultDisk:
    monkeypatch.setattr(undo, "ROOM", 4 * 4096)
    return VaultDisk.make(tmp_path)


def test_an_error_in_the_middle_goes_back_at_once(disk: VaultDisk) -> None:
    files = disk.files()
    with no_change(disk), pytest.raises(WriteFailed) as error:
        broken_update(disk, WriteFailed("something else"))
    assert error.value.disk_holds == transaction.AS_BEFORE.format(taken=moment(disk.state.taken))
    assert disk.files() == files


def test_so_does_the_end_of_the_process(disk: VaultDisk) -> None:
    with no_change(disk), pytest.raises(Ended) as error:
        broken_update(disk, Ended(15))
    assert "as before" in error.value.disk_holds


def test_without_a_commit_nothing_happened(disk: VaultDisk) -> None:
    with no_change(disk), disk.transaction() as running:
        write_content(running.begin(SIZE), disk.content, next_content(disk.content, 2))


def test_before_begin_there_is_nothing_to_do(disk: VaultDisk) -> None:
    with no_change(disk), pytest.raises(WriteFailed) as error, disk.transaction():
        raise WriteFailed("early")
    assert not error.value.disk_holds


def test_a_disk_that_changed_meanwhile_is_not_touched(disk: VaultDisk) -> None:
    running = disk.transaction()
    disk.say(booted=True)
    with no_change(disk), pytest.raises(StateUnreadable), running:
        running.begin(SIZE)


def test_a_slot_without_its_superblock_is_not_committed(disk: VaultDisk) -> None:
    def update() -> None:
        with disk.transaction() as running:
            writers = running.begin(SIZE)
            put(writers["root"], 5 * 4096, bytes(4096))
            writers["root"].flush()
            running.commit(manifest_of(2))

    with no_change(disk), pytest.raises(CopyDiffers, match="root"):
        update()


def test_nothing_is_written_outside_a_slot(disk: VaultDisk) -> None:
    def update() -> None:
        with disk.transaction() as running:
            put(running.begin(SIZE)["root"], SIZE - 4096, bytes(8192))

    with no_change(disk), pytest.raises(WriteFailed, match="outside"):
        update()


def failing(real: Callable[..., Any], times: int, path: str) -> Callable[..., Any]:
    """Let `real` fail from the call `times` on that concerns a file of that name."""

    def call(descriptor: int, *rest: Any) -> Any:
        nonlocal times
        if path in os.readlink(f"/proc/self/fd/{descriptor}"):
            times -= 1
            if times < 0:
                raise OSError(errno.EIO, "Input/output error")
        return real(descriptor, *rest)

    return call


@pytest.mark.parametrize("call", ["pwritev", "fsync"])
@pytest.mark.parametrize("times", [0, 1, 3])
def test_a_slot_that_fails_for_good_is_left_updating(
    disk: VaultDisk, call: str, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, state = disk.content, disk.state
    with monkeypatch.context() as patch:
        patch.setattr(os, call, failing(getattr(os, call), times, "slot3"))
        with pytest.raises(WriteFailed) as error:
            disk.update(next_content(before, 2))
    assert "does that first" in error.value.disk_holds
    assert disk.state.state == "updating"
    assert disk.state.txid != state.txid
    assert disk.recover() == state
    assert disk.content == before


@pytest.mark.parametrize("call", ["pwritev", "fdatasync"])
@pytest.mark.parametrize("times", [0, 1, 2])
def test_a_vault_that_fails_loses_nothing(
    disk: VaultDisk, call: str, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with no_change(disk), monkeypatch.context() as patch:
        patch.setattr(os, call, failing(getattr(os, call), times, "undo-"))
        with pytest.raises(WriteFailed):
            disk.update(next_content(disk.content, 2))
    assert len(disk.files()) == 1


def refusing(disk: VaultDisk, monkeypatch: pytest.MonkeyPatch, phases: set[str]) -> None:
    real = state_block.write_state

    def write(path: str, at: int, state: State) -> None:
        if state.state in phases:
            raise StateUnreadable("The state block could not be written.")
        real(path, at, state)

    monkeypatch.setattr("builder.vault.transaction.write_state", write)


def test_a_state_sector_that_refuses_at_the_beginning(
    disk: VaultDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusing(disk, monkeypatch, {"updating"})
    with no_change(disk), pytest.raises(StateUnreadable) as error:
        disk.update(next_content(disk.content, 2))
    assert "as before" in error.value.disk_holds


def test_a_state_sector_that_refuses_the_commit(
    disk: VaultDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, state = disk.content, disk.state
    with monkeypatch.context() as patch:
        refusing(disk, patch, {"clean"})
        with pytest.raises(StateUnreadable) as error:
            disk.update(next_content(before, 2))
    assert "does that first" in error.value.disk_holds
    assert disk.recover() == state
    assert disk.content == before


def test_a_commit_that_took_and_failed_is_taken_back(
    disk: VaultDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says `updating` again before a slot is touched."""
    real = state_block.write_state

    def write(path: str, at: int, state: State) -> None:
        real(path, at, state)
        if state.gen == 2:
            raise StateUnreadable("It does not read back.")

    monkeypatch.setattr("builder.vault.transaction.write_state", write)
    with no_change(disk), pytest.raises(StateUnreadable):
        disk.update(next_content(disk.content, 2))


@pytest.mark.parametrize("answers", [True, False])
def test_a_commit_of_which_nothing_is_known_leaves_both_possible(
    disk: VaultDisk, monkeypatch: pytest.MonkeyPatch, *, answers: bool
) -> None:
    after = next_content(disk.content, 2)
    real = state_block.write_state
    look = state_block.read_state
    tried: list[State] = []

    def read(path: str, at: int) -> State:
        if len(tried) > 1 and not answers:
            raise StateUnreadable("The disk is gone.")
        return look(path, at)

    def write(path: str, at: int, state: State) -> None:
        tried.append(state)
        if len(tried) < 3:
            real(path, at, state)
        if len(tried) > 1:
            raise StateUnreadable("The disk is gone.")

    with monkeypatch.context() as patch:
        patch.setattr("builder.vault.transaction.write_state", write)
        patch.setattr("builder.vault.transaction.read_state", read)
        with pytest.raises(StateUnreadable) as error:
            disk.update(after)
    says = "a complete new copy" if answers else "whichever it says"
    assert says in error.value.disk_holds
    assert disk.recover().gen == 2
    assert disk.content == after


def test_tidying_up_may_fail(disk: VaultDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    real = chain.sweep

    def sweep(vault: Path, state: State) -> None:
        if state.gen == 2:
            raise OSError(errno.EIO, "Input/output error")
        real(vault, state)

    with monkeypatch.context() as patch:
        patch.setattr(chain, "sweep", sweep)
        disk.update(next_content(disk.content, 2))
    assert any("tidied up" in line for line in disk.screen.said)
    assert disk.state.gen == 2


def test_a_vault_that_cannot_be_read_stops_it_at_once(
    disk: VaultDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = disk.transaction()
    state = disk.state
    (disk.vault / f"manifest-{state.txid}.json").unlink()
    with no_change(disk), pytest.raises(ReadFailed), running:
        running.begin(SIZE)


def test_all_slots_take_part(disk: VaultDisk) -> None:
    """One log for all of them."""
    disk.update(next_content(disk.content, 2))
    with disk.transaction() as running:
        assert set(running.begin(SIZE)) == set(NAMES)


def test_a_slot_is_written_in_batches(disk: VaultDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []
    real = SlotWriter.write

    def write(self: SlotWriter, offset: int, view: memoryview) -> None:
        written.append(len(view))
        real(self, offset, view)

    monkeypatch.setattr(SlotWriter, "write", write)
    disk.update(next_content(disk.content, 2))
    assert max(written) <= undo.ROOM


def test_a_signal_waits_for_writes_under_way(
    disk: VaultDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else they would land on the slots behind our back, after these went back."""
    before, state = disk.content, disk.state
    written: list[int] = []
    sent: list[int] = []
    ended: list[bool] = []
    late: list[bool] = []
    write = SlotWriter.write

    def slow(self: SlotWriter, offset: int, view: memoryview) -> None:
        if threading.current_thread() is not threading.main_thread() and not sent:
            sent.append(offset)
            os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.05)
        late.extend(ended)
        write(self, offset, view)
        written.append(offset)

    def replayed(*logs: Any, **how: Any) -> None:
        ended.append(True)
        monkeypatch.setattr(SlotWriter, "write", write)
        replay.replay(*logs, **how)

    def interrupted() -> None:
        with unwinding(), disk.transaction() as running:
            writers = running.begin(SIZE)
            monkeypatch.setattr(SlotWriter, "write", slow)
            write_content(writers, before, next_content(before, 2))

    monkeypatch.setattr("builder.vault.transaction.replay", replayed)
    with pytest.raises(Ended):
        interrupted()
    assert written
    assert not late
    assert disk.state == state
    assert disk.content == before


def test_a_copy_that_was_damaged_before_is_not_said_to_start(disk: VaultDisk) -> None:
    with pytest.raises(WriteFailed) as error:
        broken_update(disk, WriteFailed("something else"), as_before="It is damaged.")
    assert error.value.disk_holds == "It is damaged."
