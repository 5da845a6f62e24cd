# SPDX-License-Identifier: GPL-3.0-or-later
"""Digests that are damaged keep no backup from being made, and are made anew by the next."""

from pathlib import Path

import pytest

from builder.digests import store
from builder.digests.format import Damaged
from builder.target import Held, digests_on
from builder.vault import manifests
from tests.support import digest_oracle
from tests.support.vault_disk import SLOTS, Silent, VaultDisk, next_content


@pytest.fixture
def disk(tmp_path: Path) -> VaultDisk:
    made = VaultDisk.make(tmp_path)
    made.update(next_content(made.content, 2))
    return made


def damage(disk: VaultDisk, at: int) -> None:
    """In the newest file; `at` counts from its end when it is negative."""
    path = disk.vault / manifests.read(disk.vault, disk.state.txid).digests[0].file
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_an_update_over_damaged_digests_has_none(disk: VaultDisk) -> None:
    damage(disk, -100)  # a digest: nobody looks at it before it is taken into the next file
    after = next_content(disk.content, 3, 18)
    assert disk.update(after).digests == ()
    assert disk.content == after
    after = next_content(disk.content, 4)
    manifest = disk.update(after)
    digest_oracle.check(disk.vault, manifest, after)
    assert manifest.digests


def test_files_that_cannot_be_read(disk: VaultDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    def merged(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(store.Stack, "merged", merged)
    after = next_content(disk.content, 3, 18)
    assert disk.update(after).digests == ()
    assert disk.content == after


@pytest.mark.parametrize("at", [30, 300], ids=["header", "ranges"])
def test_a_file_that_makes_no_sense_is_left_alone(disk: VaultDisk, at: int) -> None:
    size = digest_oracle.read(
        (disk.vault / manifests.read(disk.vault, disk.state.txid).digests[0].file).read_bytes()
    )
    assert size.covered
    damage(disk, at)
    last = manifests.read(disk.vault, disk.state.txid)
    screen = Silent()
    held = Held(disk.state, disk.vault, last)
    with digests_on(held, SLOTS, screen) as keeper:
        assert not keeper.covered
    assert "New ones are made" in screen.said[0]


def test_whole_ones_are_used(disk: VaultDisk) -> None:
    screen = Silent()
    held = Held(disk.state, disk.vault, manifests.read(disk.vault, disk.state.txid))
    with digests_on(held, SLOTS, screen) as keeper:
        assert keeper.covered == {"root", "home"}
    assert screen.said == []
    damage(disk, 30)
    with pytest.raises(Damaged):
        store.stack_of(disk.vault, held.last)
