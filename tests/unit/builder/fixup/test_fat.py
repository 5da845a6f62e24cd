# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of the ESP are the same before and after they were copied, or it is noticed."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from builder.fixup import fat
from builder.fixup.fat import Refresh, _listed
from core.errors import CopyDiffers, FixupFailed

LOADER = "EFI/debian/grubx64.efi"


@pytest.fixture
def esp(tmp_path: Path) -> Path:
    folder = tmp_path / "esp"
    (folder / "EFI/debian").mkdir(parents=True)
    (folder / LOADER).write_bytes(b"loader" * 1000)
    (folder / "EFI/BOOT").mkdir()
    (folder / "startup.nsh").write_bytes(b"")
    return folder


@pytest.fixture
def slot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in place of a file system that is mounted."""
    folder = tmp_path / "slot"
    folder.mkdir()

    @contextmanager
    def mounted(device: str, name: str, *options: str, fstype: str = "") -> Iterator[Path]:
        yield folder

    monkeypatch.setattr(fat, "mounted", mounted)
    return folder


def rounds(refresh: Refresh) -> int:
    count = 1
    while not refresh.go_on("device", "fat"):
        count += 1
    return count


def test_a_copy_has_the_same_files(esp: Path, slot: Path) -> None:
    assert rounds(Refresh(esp, ())) == 1
    assert [file.name for file in _listed(slot)] == [
        "EFI/", "EFI/BOOT/", "EFI/debian/", "EFI/debian/grubx64.efi", "startup.nsh",
    ]  # fmt: skip
    assert _listed(slot) == _listed(esp)


def test_what_is_equal_stays_and_what_differs_is_brought(esp: Path, slot: Path) -> None:
    rounds(Refresh(esp, ()))
    (esp / "initrd").write_bytes(b"new")
    (esp / "startup.nsh").unlink()
    (esp / "EFI/BOOT").rmdir()
    (slot / "EFI/old/er").mkdir(parents=True)
    (slot / "EFI/old/er/file").write_bytes(b"old")
    inode = (slot / LOADER).stat().st_ino
    assert rounds(Refresh(esp, ())) == 1
    assert _listed(slot) == _listed(esp)
    assert (slot / LOADER).stat().st_ino == inode


def test_what_fix_ups_appended_is_cut_off(esp: Path, slot: Path) -> None:
    rounds(Refresh(esp, ()))
    inode = (slot / LOADER).stat().st_ino
    with (slot / LOADER).open("ab") as stream:
        stream.write(b"part")
    rounds(Refresh(esp, ()))
    assert _listed(slot) == _listed(esp)
    assert (slot / LOADER).stat().st_ino == inode


def test_much_is_brought_a_lot_at_a_time(esp: Path, slot: Path) -> None:
    for name in ("a", "b"):
        (esp / name).write_bytes(os.urandom(300_000))
    refresh = Refresh(esp, (), 100_000)
    sizes = []
    while not refresh.go_on("device", "fat"):
        sizes.append(sum(path.stat().st_size for path in slot.rglob("*") if path.is_file()))
    assert len(sizes) >= 6
    assert all(0 <= after - before <= 100_000 for before, after in pairwise(sizes))
    assert _listed(slot) == _listed(esp)


def test_a_change_between_two_lots_begins_again(esp: Path, slot: Path) -> None:
    (esp / "a").write_bytes(os.urandom(300_000))
    refresh = Refresh(esp, (), 100_000)
    assert not refresh.go_on("device", "fat")
    (esp / "a").write_bytes(os.urandom(250_000))
    rounds(refresh)
    assert _listed(slot) == _listed(esp)


@pytest.mark.parametrize("gone", ["startup.nsh.dpkg-new", LOADER])
def test_a_file_that_vanishes_while_it_is_copied(
    esp: Path, slot: Path, gone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (esp / gone).write_bytes(b"for a moment")
    real = fat._append

    def append(ours: Path, theirs: Path, start: int, length: int) -> None:
        if ours == esp / gone:
            ours.unlink()
        real(ours, theirs, start, length)

    monkeypatch.setattr(fat, "_append", append)
    rounds(Refresh(esp, ()))
    assert _listed(slot) == _listed(esp)
    assert not (slot / gone).exists()


def test_a_file_that_vanishes_while_they_are_listed(
    esp: Path, slot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = fat._digest
    gone = esp / "startup.nsh"

    def digest(path: Path, *size: int) -> str:
        if path == gone and gone.exists():
            gone.unlink()
        return real(path, *size)

    monkeypatch.setattr(fat, "_digest", digest)
    rounds(Refresh(esp, ()))
    assert _listed(slot) == _listed(esp)


def test_files_that_never_stay_are_given_up(
    esp: Path, slot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = fat._append

    def append(ours: Path, theirs: Path, start: int, length: int) -> None:
        real(ours, theirs, start, length)
        with (esp / LOADER).open("ab") as stream:
            stream.write(b"more")

    monkeypatch.setattr(fat, "_append", append)
    with pytest.raises(FixupFailed, match="changed 3 times"):
        rounds(Refresh(esp, ()))


def test_what_does_not_read_back_is_noticed(
    esp: Path, slot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = fat._append

    def append(ours: Path, theirs: Path, start: int, length: int) -> None:
        real(ours, theirs, start, length)
        if length:
            theirs.write_bytes(bytes(length))

    monkeypatch.setattr(fat, "_append", append)
    with pytest.raises(CopyDiffers):
        rounds(Refresh(esp, ()))


def _content(esp: Path) -> None:
    path = esp / LOADER
    before = path.stat()
    path.write_bytes(b"LOADER" * 1000)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _new(esp: Path) -> None:
    (esp / "EFI/BOOT/BOOTX64.EFI").write_bytes(b"new")


def _gone(esp: Path) -> None:
    (esp / "startup.nsh").unlink()


def _touched(esp: Path) -> None:
    os.utime(esp / "startup.nsh", ns=(1, 1))


@pytest.mark.parametrize("change", [_content, _new, _gone, _touched])
def test_a_change_is_noticed(
    esp: Path, slot: Path, change: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = fat._append
    changes = [change]

    def append(ours: Path, theirs: Path, start: int, length: int) -> None:
        real(ours, theirs, start, length)
        if ours.name == "startup.nsh" and changes:
            changes.pop()(esp)

    monkeypatch.setattr(fat, "_append", append)
    rounds(Refresh(esp, ()))
    assert not changes
    assert _listed(slot) == _listed(esp)
