# SPDX-License-Identifier: GPL-3.0-or-later
"""No link in the copy leads to a file of the primary."""

from pathlib import Path

import pytest

from builder.fixup.inside import inside, matching, put, replace_content
from core.errors import FixupFailed


def test_absolute_links_stay_in_the_copy(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("primary")
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc/fstab").symlink_to(outside)
    (root / "etc/up").symlink_to("../../../outside")
    assert inside(root, "etc/fstab") is None
    assert inside(root, "etc/up") is None
    (root / str(outside).lstrip("/")).parent.mkdir(parents=True)
    copy = root / str(outside).lstrip("/")
    copy.write_text("copy")
    assert inside(root, "/etc/fstab") == copy


def test_links_to_folders_and_circles(tmp_path: Path) -> None:
    (tmp_path / "usr/lib/modules").mkdir(parents=True)
    (tmp_path / "lib").symlink_to("usr/lib")
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("/a")
    assert inside(tmp_path, "lib/modules") == tmp_path / "usr/lib/modules"
    with pytest.raises(FixupFailed):
        inside(tmp_path, "a")


def test_patterns_name_files_only(tmp_path: Path) -> None:
    folder = tmp_path / "etc/default/grub.d"
    folder.mkdir(parents=True)
    for name in ("b.cfg", "a.cfg", ".hidden.cfg", "c.txt"):
        (folder / name).touch()
    (folder / "d.cfg").mkdir()
    assert [p.name for p in matching(tmp_path, "etc/default/grub.d/*.cfg")] == ["a.cfg", "b.cfg"]
    assert list(matching(tmp_path, "no/*/such")) == []


def test_a_file_is_edited_in_place(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"long content")
    path.chmod(0o640)
    (tmp_path / "hard").hardlink_to(path)
    assert replace_content(path, b"short")
    assert not replace_content(path, b"short")
    assert (tmp_path / "hard").read_bytes() == b"short"
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_new_file_comes_with_its_folders(tmp_path: Path) -> None:
    assert put(tmp_path, "etc/dpsr/copy.json", b"{}")
    assert not put(tmp_path, "etc/dpsr/copy.json", b"{}")
    assert put(tmp_path, "etc/dpsr/copy.json", b"{ }")
    assert (tmp_path / "etc/dpsr/copy.json").read_bytes() == b"{ }"
