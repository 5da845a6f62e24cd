# SPDX-License-Identifier: GPL-3.0-or-later
"""What was done on the copy is listed, also when a part of it cannot be read."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from builder import work
from builder.vault import manifests
from core.errors import CommandFailed, WorkOnCopy
from core.model.manifest import Manifest, SlotState
from tests.support.vault_disk import manifest_of

SLOTS = (
    SlotState("efi", "/boot/efi", "vfat", 3, 0, 1, "", ""),
    SlotState("boot", "/boot", "ext4", 4, 0, 1, "aa" * 16, "bb" * 16),
    SlotState("root", "/", "ext4", 5, 0, 1, "aa" * 16, "bb" * 16),
)


@pytest.fixture
def last() -> Manifest:
    return replace(manifest_of(1), slots=SLOTS)


@pytest.fixture
def vault(tmp_path: Path, last: Manifest) -> Path:
    """The vault, and beside it a folder for each slot."""
    folder = tmp_path / "vault"
    folder.mkdir()
    manifests.write(folder, last)
    long_ago = folder.stat().st_mtime - 3600
    os.utime(folder / manifests.file_name(last.txid), (long_ago, long_ago))
    for number in (4, 5):
        (tmp_path / str(number)).mkdir()
    return folder


def refused(
    last: Manifest, vault: Path, monkeypatch: pytest.MonkeyPatch, *broken: int, error: bool = False
) -> str:
    """What is said; the slots `broken` cannot be mounted, or not read."""

    @contextmanager
    def mounted(device: str, name: str, *options: str, fstype: str = "") -> Iterator[Path]:
        assert options == ("ro", "noload")
        if int(Path(device).name) in broken:
            if error:
                raise OSError(117, "Structure needs cleaning")
            raise CommandFailed(f"mount {device}", 32, "wrong fs type, bad superblock")
        yield Path(device)

    monkeypatch.setattr(work, "mounted", mounted)
    with pytest.raises(WorkOnCopy) as caught:
        work.refuse(last, vault, lambda number: str(vault.parent / str(number)))
    assert "--discard-work-on-copy" in caught.value.hint
    return str(caught.value)


def test_what_was_written_is_listed(
    last: Manifest, vault: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (vault.parent / "4/grub").mkdir()
    (vault.parent / "4/grub/grubenv").touch()
    (vault.parent / "5/root").mkdir()
    (vault.parent / "5/root/letter").touch()
    said = refused(last, vault, monkeypatch)
    assert "2 files were written there (1 in /boot/grub, 1 in /root)" in said
    assert "/root/letter" in said
    assert said.endswith("Nothing was written now.")


@pytest.mark.parametrize("error", [False, True])
def test_a_slot_that_cannot_be_read_hides_nothing_of_the_others(
    last: Manifest, vault: Path, monkeypatch: pytest.MonkeyPatch, error: bool
) -> None:
    (vault.parent / "4/file").touch()
    said = refused(last, vault, monkeypatch, 5, error=error)
    assert "1 files were written there (1 in /boot), last /boot/file." in said
    assert "What its file system of / holds cannot be read." in said


def test_damage_alone_is_not_called_work(
    last: Manifest, vault: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = refused(last, vault, monkeypatch, 4, 5)
    assert "What its file system of /boot, / holds cannot be read." in said
    assert "file was written" not in said


def test_a_summary_names_the_last_files_and_the_fullest_folders() -> None:
    found = [(float(number), f"/var/lib/db/{number}") for number in range(20)]
    found += [(100.0, "/notes"), (50.0, "/etc/fstab")]
    told = work.summary(found)
    assert told.count == 22
    assert told.newest[:3] == ("/notes", "/etc/fstab", "/var/lib/db/19")
    assert len(told.newest) == 8
    assert told.folders == (("/var/lib", 20), ("/", 1), ("/etc", 1))
    assert told.sentence().startswith("22 files were written there (20 in /var/lib, 1 in /, ")


def test_nothing_was_written() -> None:
    assert work.summary([]).sentence() == "No file was written there."
