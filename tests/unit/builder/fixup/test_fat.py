# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of the ESP are the same before and after they were copied, or it is noticed."""

import os
from pathlib import Path

import pytest

from builder.fixup.fat import _copy, _listed, _still


@pytest.fixture
def esp(tmp_path: Path) -> Path:
    folder = tmp_path / "esp"
    (folder / "EFI/debian").mkdir(parents=True)
    (folder / "EFI/debian/grubx64.efi").write_bytes(b"loader" * 1000)
    (folder / "EFI/BOOT").mkdir()
    (folder / "startup.nsh").write_bytes(b"")
    return folder


def test_a_copy_has_the_same_files(esp: Path, tmp_path: Path) -> None:
    files = _listed(esp)
    assert [file.name for file in files] == [
        "EFI/", "EFI/BOOT/", "EFI/debian/", "EFI/debian/grubx64.efi", "startup.nsh",
    ]  # fmt: skip
    target = tmp_path / "slot"
    target.mkdir()
    _copy(esp, target, files)
    assert _listed(target) == files
    assert _still(esp, files)


def _content(esp: Path) -> None:
    path = esp / "EFI/debian/grubx64.efi"
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
def test_a_change_is_noticed(esp: Path, change: object) -> None:
    assert callable(change)
    files = _listed(esp)
    change(esp)
    assert not _still(esp, files)
