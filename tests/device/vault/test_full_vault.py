# SPDX-License-Identifier: GPL-3.0-or-later
"""A vault that is full: older generations make room, else the update goes back."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.copying import undo
from builder.digests import keeper, noted
from builder.vault import chain, undolog
from core.errors import (
    VaultFull,
)
from core.run import run
from tests.support import digest_oracle
from tests.support.block import image, loop, mounted
from tests.support.vault_disk import (
    VaultDisk,
    next_content,
    no_change,
)


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> VaultDisk:
    monkeypatch.setattr(undo, "ROOM", 4 * 4096)
    return VaultDisk.make(tmp_path)


@pytest.fixture
def small_vault(
    disk: VaultDisk, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[VaultDisk]:
    """An ext4 with room for two or three undo logs."""
    monkeypatch.setattr(undolog, "STEP", 64 << 10)
    path = image(tmp_path_factory.mktemp("vault") / "image", 1 << 20)
    run("mke2fs", "-q", "-t", "ext4", "-b", "1024", "-m", "0", "-O", "^has_journal", str(path))
    with loop(path) as device, mounted(device, path.with_name("mnt")) as folder:
        for each in disk.vault.iterdir():
            (folder / each.name).write_bytes(each.read_bytes())
        disk.vault = folder
        yield disk


def test_the_oldest_generations_make_room(small_vault: VaultDisk) -> None:
    disk = small_vault
    contents = {}
    for seed in range(2, 14):
        disk.update(next_content(disk.content, seed, 20))
        contents[seed] = disk.content
    kept = chain.generations(disk.vault, disk.state)
    known = [each.generation for each in kept]
    assert known[0] == 13
    assert 2 <= len(known) < 12
    assert any("dropped" in line for line in disk.screen.said)
    for manifest in kept:
        digest_oracle.check(disk.vault, manifest, contents[manifest.generation])
    named = {each.file for manifest in kept for each in manifest.digests}
    assert {path.name for path in disk.vault.glob("digests-*")} == named
    disk.roll_back(known[-1])


def test_digests_that_do_not_fit_make_room_as_a_log_does(
    small_vault: VaultDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First by being shorter, then by dropping generations; else the backup has none."""
    disk = small_vault
    for seed in (2, 3):
        disk.update(next_content(disk.content, seed))
    put, left = keeper._Out.drain, 2

    def drain(self: keeper._Out) -> None:
        nonlocal left
        left -= 1
        if left >= 0:
            raise OSError(errno.ENOSPC, "no room")
        put(self)

    monkeypatch.setattr(keeper._Out, "drain", drain)
    manifest = disk.update(next_content(disk.content, 4))
    digest_oracle.check(disk.vault, manifest, disk.content)
    assert [each.generation for each in chain.generations(disk.vault, disk.state)] == [4, 3, 2]
    left = 1 << 20
    after = next_content(disk.content, 5)
    manifest = disk.update(after)
    assert disk.content == after
    assert manifest.digests == ()
    assert any("no room for digests" in line for line in disk.screen.said)
    left = 0
    manifest = disk.update(next_content(after, 6))
    digest_oracle.check(disk.vault, manifest, disk.content)


def test_digests_without_room_while_the_update_writes(
    small_vault: VaultDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits in the vault has no room: the backup is complete, and has no digests."""

    def spill(self: noted.Noted) -> None:
        raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr(noted, "LOT", 8)
    monkeypatch.setattr(noted.Noted, "_spill", spill)
    after = next_content(small_vault.content, 2, 20)
    assert small_vault.update(after).digests == ()
    assert small_vault.content == after
    assert list(small_vault.vault.glob("digests-*")) == []


def test_without_any_left_the_update_goes_back(small_vault: VaultDisk) -> None:
    disk = small_vault
    rest = os.statvfs(disk.vault)
    (disk.vault / "ballast").write_bytes(bytes(rest.f_bavail * rest.f_frsize - (150 << 10)))
    with no_change(disk), pytest.raises(VaultFull, match="needs up to") as error:
        disk.update(next_content(disk.content, 2, 20))
    assert "as before" in error.value.disk_holds
    assert disk.recover() == disk.state


def test_what_can_never_fit_is_refused_at_once(small_vault: VaultDisk) -> None:
    disk = small_vault
    with (
        no_change(disk),
        pytest.raises(VaultFull) as error,
        disk.transaction() as running,
    ):
        running.begin(1 << 30)
    assert not error.value.disk_holds
    assert "1.0 GiB" in str(error.value)


def test_a_full_vault_does_not_stop_the_way_back(small_vault: VaultDisk) -> None:
    disk = small_vault
    before = disk.content
    disk.update(next_content(before, 2))
    ballast = (disk.vault / "ballast").open("wb", buffering=0)
    with ballast, contextlib.suppress(OSError):
        while ballast.write(bytes(1024)) == 1024:
            pass
    assert os.statvfs(disk.vault).f_bavail == 0
    disk.roll_back(1)
    assert disk.content == before
