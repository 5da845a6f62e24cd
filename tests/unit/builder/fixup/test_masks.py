# SPDX-License-Identifier: GPL-3.0-or-later
"""The copy never mounts the control partition by itself."""

import os
from pathlib import Path

import pytest

from builder.fixup.masks import mask

FOLDER = "etc/systemd/system"


def masked(root: Path) -> set[str]:
    folder = root / FOLDER
    return {path.name for path in folder.iterdir() if os.path.islink(path)}


@pytest.mark.parametrize(
    ("fstab", "wanted"),
    [
        ("UUID=1 / ext4 defaults 0 1\n", {"efi", "boot"}),
        ("UUID=1 / ext4\nUUID=2 /boot/ ext4\nUUID=3 /boot/efi vfat\n", {"efi"}),
        ("UUID=1 / ext4\n# /dev/x /boot ext4\nUUID=3 /efi vfat umask=0077\n", {"boot"}),
        ("", {"efi", "boot"}),
    ],
)
def test_what_fstab_does_not_mount_is_masked(tmp_path: Path, fstab: str, wanted: set[str]) -> None:
    (tmp_path / FOLDER).mkdir(parents=True)
    (tmp_path / "etc/fstab").write_text(fstab)
    made = set(mask(tmp_path))
    names = {f"{place}.{kind}" for place in wanted for kind in ("mount", "automount")}
    assert masked(tmp_path) == names
    assert made == {f"/{FOLDER}/{name}" for name in names}
    assert all(os.readlink(tmp_path / FOLDER / name) == "/dev/null" for name in names)
    assert set(mask(tmp_path)) == set(), "a second time nothing changes"


def test_a_unit_that_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / FOLDER).mkdir(parents=True)
    (tmp_path / FOLDER / "efi.mount").write_text("[Mount]\nWhat=/dev/vdb1\n")
    made = set(mask(tmp_path))
    assert f"/{FOLDER}/efi.mount" not in made
    assert (tmp_path / FOLDER / "efi.mount").read_text().startswith("[Mount]")


def test_no_systemd_no_masks(tmp_path: Path) -> None:
    assert list(mask(tmp_path)) == []
