# SPDX-License-Identifier: GPL-3.0-or-later
"""Bits flip in a slot and in the vault: `verify` says where, and mends what can be mended."""

import dataclasses
from pathlib import Path

import pytest

from builder.vault import manifests
from core.errors import NotVerified
from core.run import run
from dpsr.verified import as_data, as_text, trouble
from tests.support.verified_disk import BLOCK, FIXED, SIZE, Disk, make, offsets


@pytest.fixture(params=[1024, 4096])
def disk(tmp_path: Path, request: pytest.FixtureRequest) -> Disk:
    return make(tmp_path, request.param)


def test_what_nobody_touched_is_good(disk: Disk) -> None:
    report = disk.verify()
    assert report.is_good
    assert (report.checked, report.generation) == (SIZE, 1)
    assert trouble(report, repair=False) is None
    assert "All 24.0 MiB of generation 1 are as they were written." in as_text(report)


def test_any_bit_is_seen(disk: Disk) -> None:
    """A lot of them, all over the slot: what is named are these blocks and no others."""
    places = [at * 37 * BLOCK + 1234 for at in range(2, SIZE // BLOCK // 37)]
    for at in places:
        disk.flip(at)
    assert sorted(offsets(disk.verify())) == [at - at % BLOCK for at in places]


def test_a_file_is_named_and_mended(disk: Disk) -> None:
    good = disk.slot.read_bytes()
    at = disk.place("/srv/large", 50)
    disk.flip(at + 5)
    (damage,) = disk.verify().damages
    assert (damage.what, damage.offsets, damage.mended) == ("/srv/large", (at - at % BLOCK,), 0)
    assert "update --full" in damage.remedy
    assert disk.slot.read_bytes() != good
    report = disk.verify(repair=True)
    assert (report.blocks, report.mended) == (1, 1)
    assert disk.slot.read_bytes() == good
    said = trouble(report, repair=True)
    assert said is not None
    assert "All blocks were mended." in str(said)
    assert as_data(report)["damaged"][0]["remedy"] is None
    assert disk.verify().is_good


def test_a_file_of_several_names(disk: Disk) -> None:
    disk.flip(disk.place("/srv/small"))
    (damage,) = disk.verify().damages
    assert set(damage.what.split(", ")) >= {"/srv/small", "/srv/other name"}


def test_what_the_primary_has_no_more_is_left(disk: Disk) -> None:
    at = disk.place("/srv/large", 50)
    disk.flip(at)
    disk.flip(at + 900, disk.volume)
    damaged = disk.slot.read_bytes()
    report = disk.verify(repair=True)
    assert (report.blocks, report.mended) == (1, 0)
    assert "something else there by now" in report.damages[0].remedy
    assert disk.slot.read_bytes() == damaged


def test_what_was_made_for_the_copy_is_not_fetched(disk: Disk) -> None:
    disk.flip(disk.place(FIXED) + 3)
    damaged = disk.slot.read_bytes()
    report = disk.verify(repair=True)
    (damage,) = report.damages
    assert FIXED in damage.what.split(", ")
    assert "made for the copy" in damage.remedy
    assert report.mended == 0
    assert disk.slot.read_bytes() == damaged


def test_metadata_is_called_so(disk: Disk) -> None:
    said = [line.split() for line in _dumped(disk) if "Inode table at" in line]
    at = int(said[0][3].split("-")[0]) * disk.block
    disk.flip(at + 20 * BLOCK)
    (damage,) = disk.verify().damages
    assert damage.what == "file system metadata"
    assert disk.verify(repair=True).mended == 1
    assert disk.verify().is_good


def test_free_space_needs_nothing(disk: Disk) -> None:
    disk.flip(SIZE - 3 * BLOCK)
    (damage,) = disk.verify().damages
    assert (damage.what, damage.remedy) == ("free space", "nothing needs it")


def test_the_journal(disk: Disk) -> None:
    disk.flip(disk.place("<8>", 40))
    assert [each.what for each in disk.verify().damages] == ["the journal"]


@pytest.mark.parametrize("at", [1024 + 0x78, 1024 + 0x38], ids=["label", "magic"])
def test_a_damaged_superblock_is_no_boot(disk: Disk, at: int) -> None:
    disk.flip(at)
    report = disk.verify(repair=True)
    assert list(offsets(report)) == [0]
    assert report.mended == 0
    assert "update" in report.damages[0].remedy


def test_a_copy_that_was_started_cannot_be_verified(disk: Disk) -> None:
    with pytest.raises(NotVerified, match="was started"):
        disk.verify(booted=True)
    _set_mount_count(disk)
    with pytest.raises(NotVerified, match="was started"):
        disk.verify()


def test_without_digests(disk: Disk) -> None:
    manifests.write(disk.vault, dataclasses.replace(disk.manifest, digests=()))
    with pytest.raises(NotVerified, match="no digests"):
        disk.verify()


def test_damaged_digests_are_no_damaged_blocks(disk: Disk) -> None:
    path = disk.vault / disk.manifest.digests[0].file
    disk.flip(path.stat().st_size - 1000, path)  # among the digests
    report = disk.verify()
    assert not report.damages
    assert not report.is_good
    assert any(path.name in line for line in report.vault)
    assert any("could not be verified" in note for note in report.notes)
    disk.flip(path.stat().st_size - 1000, path)
    disk.flip(30, path)  # the header
    with pytest.raises(NotVerified, match="cannot be read"):
        disk.verify()


def _dumped(disk: Disk) -> list[str]:
    return run("dumpe2fs", str(disk.slot)).splitlines()


def _set_mount_count(disk: Disk) -> None:
    run("tune2fs", "-C", "77", str(disk.slot))
