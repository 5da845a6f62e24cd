# SPDX-License-Identifier: GPL-3.0-or-later
"""In which order a file and its name are brought to the disk."""

import fcntl
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from core.errors import AlreadyRunning
from core.files import HIDING, copy_durably, lock, write_durably


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
    """FAT writes the new name as that of an empty file: the sync after it counts there. The name of
    the part is gone before: two names for one content would be mended by emptying one."""
    folder = tmp_path / "folder"
    folder.mkdir()
    write_durably(folder / "a", b"content")
    copy_durably(folder / "a", folder / "b")
    assert done == [
        ".a.part", "renamed", "folder", "a", "folder",
        ".b.part", "renamed", "folder", "b", "folder",
    ]  # fmt: skip
    assert (folder / "b").read_bytes() == b"content"
    assert sorted(path.name for path in folder.iterdir()) == ["a", "b"]


def test_what_is_replaced_stays_on_the_disk_until_the_new_name_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FAT frees the content of a file when nobody has it open any more."""
    path = tmp_path / "loader"
    path.write_bytes(b"old")
    inode = path.stat().st_ino
    held: list[bool] = []
    fsync = os.fsync

    def on_fsync(file: int) -> None:
        fsync(file)
        opened = {os.stat(f"/proc/self/fd/{name}").st_ino for name in _descriptors()}
        held.append(inode in opened)

    monkeypatch.setattr(os, "fsync", on_fsync)
    write_durably(path, b"new")
    assert held == [True, True, True, False]
    assert path.read_bytes() == b"new"


def _descriptors() -> list[str]:
    return [name for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}")]


def test_one_that_hides_the_disk_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_text(f"dpsr {HIDING}, process 1")
    with open(path, "rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        end = threading.Timer(0.2, fcntl.flock, (held, fcntl.LOCK_UN))
        end.start()
        with lock(path, "update"):
            assert path.read_text().startswith("dpsr update, process")
        end.join()


def test_another_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with (
        lock(path, "update"),
        pytest.raises(AlreadyRunning, match=r"\(dpsr update, process"),
        lock(path, HIDING),
    ):
        pytest.fail("both have it")
