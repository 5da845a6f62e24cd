# SPDX-License-Identifier: GPL-3.0-or-later
"""Ways back: closed ones, damaged ones, long ones, and what is swept off the vault."""

from pathlib import Path

import pytest

from builder.copying import undo
from builder.vault import chain
from core.errors import (
    ChainClosed,
    NoSuchGeneration,
    UndoLogDamaged,
    WriteFailed,
)
from tests.support.vault_disk import (
    SIZE,
    VaultDisk,
    broken_update,
    next_content,
    no_change,
    write_content,
)


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> VaultDisk:
    monkeypatch.setattr(undo, "ROOM", 4 * 4096)
    return VaultDisk.make(tmp_path)


def test_a_booted_copy_closes_the_chain(disk: VaultDisk) -> None:
    disk.update(next_content(disk.content, 2))
    disk.say(booted=True)
    with no_change(disk), pytest.raises(ChainClosed):
        disk.roll_back(1)
    with no_change(disk), pytest.raises(WriteFailed):
        broken_update(disk, WriteFailed("something else"), chained=False)
    manifest = disk.update(next_content(disk.content, 3), chained=False)
    assert (manifest.parent, manifest.undo_log) == ("", "")
    assert disk.state.gen == 3
    assert not disk.state.booted
    assert disk.files() == {f"manifest-{manifest.txid}.json", manifest.digests[0].file}
    with no_change(disk), pytest.raises(NoSuchGeneration):
        disk.roll_back(2)


def test_a_log_that_is_missing_ends_the_way_back(disk: VaultDisk) -> None:
    logs = [disk.update(next_content(disk.content, seed)).undo_log for seed in range(2, 6)]
    (disk.vault / logs[1]).unlink()
    with no_change(disk), pytest.raises(NoSuchGeneration, match="to: 4, 3"):
        disk.roll_back(2)
    disk.roll_back(3)


@pytest.mark.parametrize("where", [0.3, 0.6, 0.99])
def test_a_log_that_is_damaged_is_seen_before_anything_is_written(
    disk: VaultDisk, where: float
) -> None:
    path = disk.vault / disk.update(next_content(disk.content, 2)).undo_log
    data = bytearray(path.read_bytes())
    data[int(len(data) * where)] ^= 1
    path.write_bytes(data)
    with no_change(disk), pytest.raises(UndoLogDamaged):
        disk.roll_back(1)


def test_a_damaged_log_never_passes_for_a_torn_one(disk: VaultDisk) -> None:
    """An interrupted update whose log lost something that had been on the disk."""
    with pytest.raises(KeyboardInterrupt):
        interrupted(disk)
    [path] = disk.vault.glob("undo-*")
    data = bytearray(path.read_bytes())
    data[600] ^= 1
    path.write_bytes(data)
    with pytest.raises(UndoLogDamaged):
        disk.recover()
    assert disk.state.state == "updating"


def interrupted(disk: VaultDisk) -> None:
    """As a kill leaves it."""
    running = disk.transaction()
    running.__enter__()
    write_content(running.begin(SIZE), disk.content, next_content(disk.content, 2))
    raise KeyboardInterrupt


def test_a_log_that_is_gone_is_said(disk: VaultDisk) -> None:
    with pytest.raises(KeyboardInterrupt):
        interrupted(disk)
    [path] = disk.vault.glob("undo-*")
    path.unlink()
    with pytest.raises(UndoLogDamaged):
        disk.recover()
    assert disk.state.state == "updating"


def test_a_sweep_deletes_only_what_the_chain_does_not_name(disk: VaultDisk) -> None:
    for seed in (2, 3):
        disk.update(next_content(disk.content, seed))
    kept = disk.files() | {"lost+found", "digest-1", "notes"}
    (disk.vault / "lost+found").mkdir()
    for name in ("digest-1", "notes", "manifest-x.json", "undo-x.part", ".manifest-y.json.part"):
        (disk.vault / name).write_bytes(b"anything")
    chain.sweep(disk.vault, disk.state)
    assert disk.files() == kept
    assert [each.generation for each in chain.generations(disk.vault, disk.state)] == [3, 2, 1]


def test_nothing_is_swept_while_an_update_runs(disk: VaultDisk) -> None:
    with disk.transaction() as running:
        running.begin(SIZE)
        with pytest.raises(ValueError, match="updating"):
            chain.sweep(disk.vault, disk.state)
        assert len(chain.generations(disk.vault, disk.state)) == 1


def test_many_generations(disk: VaultDisk) -> None:
    contents = [disk.content]
    for seed in range(2, 32):
        contents.append(next_content(contents[-1], seed, 3))
        disk.update(contents[-1])
    assert len(chain.generations(disk.vault, disk.state)) == 31
    disk.roll_back(7)
    assert disk.content == contents[6]
    disk.update(contents[0])
    disk.roll_back(1)
    assert disk.content == contents[0]
