# SPDX-License-Identifier: GPL-3.0-or-later
"""What is done to the control partition around a mount. FAT itself needs a guest's kernel."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from builder import control_mount
from builder.control_mount import MENDED, control_at
from core.files import sync_device
from core.run import run
from tests.support import block
from tests.support.shared_clusters import LEFTOVER, leave_behind
from tests.support.vault_disk import Silent


@pytest.fixture
def fat(tmp_path: Path) -> Path:
    path = block.image(tmp_path / "control", 64 << 20)
    run("mkfs.fat", "-F", "32", "-n", "DPSR-CONTRL", str(path))
    run("mcopy", "-i", str(path), "-", "::kept", given=b"kept" * 1000)
    return path


@pytest.fixture
def done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What happens, in order; the folder stands for the mounted file system."""
    seen: list[str] = []
    folder = tmp_path / "mounted"
    folder.mkdir()

    @contextmanager
    def mounted(device: str, *_: str, **__: str) -> Iterator[Path]:
        run("fsck.fat", "-n", device)  # it is sound by now
        seen.append("mounted")
        yield folder
        seen.append("unmounted")

    def on_sync(device: str) -> None:
        sync_device(device)
        seen.append("flushed")

    monkeypatch.setattr(control_mount, "mounted", mounted)
    monkeypatch.setattr(control_mount, "sync_device", on_sync)
    return seen


def test_shared_clusters_are_parted_before_it_is_mounted(fat: Path, done: list[str]) -> None:
    leave_behind(fat, 0, bytes(range(256)) * 400)
    run("fsck.fat", "-n", str(fat), ok=(1,))
    screen = Silent()
    with block.loop(fat) as device, control_at(device, screen):
        pass
    assert done == ["mounted", "unmounted", "flushed"]
    assert [MENDED in line for line in screen.said] == [True]
    assert run("mtype", "-i", str(fat), "::kept") == "kept" * 1000
    assert "r-0000" in run("mdir", "-b", "-i", str(fat), f"::{Path(LEFTOVER).parent}")


def test_what_was_salvaged_is_removed(fat: Path, done: list[str]) -> None:
    with control_at(str(fat), Silent()) as control:
        names = {"FSCK0000.REC", "fsck0001.rec", "kept.rec", "FSCK0000.RECORD"}
        for name in names:
            (control / name).touch()
    with control_at(str(fat), Silent()) as control:
        assert {path.name for path in control.iterdir()} == {"kept.rec", "FSCK0000.RECORD"}


def test_that_nobody_unmounted_it_is_not_worth_a_word(fat: Path, done: list[str]) -> None:
    with open(fat, "r+b") as stream:
        stream.seek(0x41)
        stream.write(b"\1")
    screen = Silent()
    with control_at(str(fat), screen):
        pass
    assert screen.said == []


def test_it_is_flushed_also_when_the_work_failed(fat: Path, done: list[str]) -> None:
    with pytest.raises(OSError, match="full"), control_at(str(fat), Silent()):
        raise OSError("full")
    assert done[-1] == "flushed"
