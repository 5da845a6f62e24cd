# SPDX-License-Identifier: GPL-3.0-or-later
"""In which order a file and its name are brought to the disk."""

import os
from pathlib import Path
from typing import Any

import pytest

from core.files import copy_durably, write_durably


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was synced and renamed, in order, by name."""
    seen: list[str] = []
    fsync, replace = os.fsync, os.replace

    def on_fsync(file: int) -> None:
        fsync(file)
        seen.append(os.path.basename(os.readlink(f"/proc/self/fd/{file}")))

    def on_replace(old: Any, new: Any) -> None:
        replace(old, new)
        seen.append("renamed")

    monkeypatch.setattr(os, "fsync", on_fsync)
    monkeypatch.setattr(os, "replace", on_replace)
    return seen


def test_a_file_is_on_the_disk_before_and_after_it_gets_its_name(
    tmp_path: Path, done: list[str]
) -> None:
    """FAT writes the new name as that of an empty file: the sync after it counts there."""
    folder = tmp_path / "folder"
    folder.mkdir()
    write_durably(folder / "a", b"content")
    copy_durably(folder / "a", folder / "b")
    assert done == [
        ".a.part", "renamed", "a", "folder", ".b.part", "renamed", "b", "folder",
    ]  # fmt: skip
    assert (folder / "b").read_bytes() == b"content"
    assert sorted(path.name for path in folder.iterdir()) == ["a", "b"]
