# SPDX-License-Identifier: GPL-3.0-or-later
"""An update happens as a whole or not at all: what each step leaves, and what errors leave."""

from pathlib import Path

import pytest

from tests.support.vault_disk import VaultDisk, next_content


@pytest.fixture
def disk(tmp_path: Path) -> VaultDisk:
    return VaultDisk.make(tmp_path)


def test_an_update_makes_the_next_generation(disk: VaultDisk) -> None:
    after = next_content(disk.content, 2)
    first = disk.state
    manifest = disk.update(after)
    assert disk.content == after
    assert (disk.state.state, disk.state.gen, disk.state.txid) == ("clean", 2, manifest.txid)
    assert disk.files() == {
        f"manifest-{first.txid}.json", f"manifest-{manifest.txid}.json", manifest.undo_log,
        manifest.digests[0].file,
    }  # fmt: skip


def test_it_ends_a_trial_and_leaves_a_switched_order_alone(disk: VaultDisk) -> None:
    marked = disk.state.with_order("0000,0001").with_trial("2").with_primary("1")
    disk.say(extra=marked.extra)
    disk.update(next_content(disk.content, 2))
    assert (disk.state.order, disk.state.trial) == ("0000,0001", "")
    assert "primary" not in dict(disk.state.extra)


def test_it_can_be_taken_back(disk: VaultDisk) -> None:
    first, before = disk.state, disk.content
    contents = [before]
    for seed in (2, 3, 4):
        contents.append(next_content(contents[-1], seed))
        disk.update(contents[-1])
    assert disk.roll_back(3) == disk.state
    assert disk.state.gen == 3
    assert disk.content == contents[2]
    disk.roll_back(1)
    assert disk.state == first
    assert disk.content == before
    assert disk.files() == {f"manifest-{first.txid}.json"}
