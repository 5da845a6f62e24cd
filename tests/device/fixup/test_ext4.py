# SPDX-License-Identifier: GPL-3.0-or-later
"""Every kind of ext file system takes a new UUID and stays whole."""

from pathlib import Path

import pytest

from builder.fixup.clone import _check_file_system
from builder.fixup.uuids import features, set_ext4, superblock
from core.model.copy import Identity
from core.run import run
from core.screen import PlainScreen

OLD = "aaaaaaaa-1111-4111-8111-000000000001"
NEW = Identity("bbbbbbbb-2222-4222-8222-000000000002", "dpsr-root", "", "")


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("ext4", "metadata_csum,metadata_csum_seed"),
        ("ext4", "metadata_csum,^metadata_csum_seed"),
        ("ext4", "^metadata_csum,uninit_bg"),
        ("ext4", "^metadata_csum,^uninit_bg,^64bit"),
        ("ext4", "metadata_csum,sparse_super2"),
        ("ext3", "none"),
        ("ext2", "none"),
    ],
)
def test_a_new_identity(tmp_path: Path, kind: str, options: str) -> None:
    image = tmp_path / "image"
    with image.open("wb") as stream:
        stream.truncate(300 << 20)
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "file").write_bytes(b"x" * 100_000)
    with_features = () if options == "none" else ("-O", options)
    run(
        "mke2fs",
        "-q",
        "-t",
        kind,
        *with_features,
        "-U",
        OLD,
        "-L",
        "old",
        "-d",
        str(folder),
        str(image),
    )
    before = features(str(image))
    set_ext4(str(image), NEW)
    found = superblock(str(image))
    assert found["Filesystem UUID"] == NEW.uuid
    assert found["Filesystem volume name"] == NEW.label
    assert features(str(image)) - before <= {"metadata_csum_seed"}
    run("e2fsck", "-fn", str(image))
    set_ext4(str(image), Identity(OLD, "", "", ""))
    assert superblock(str(image))["Filesystem volume name"] == "<none>"
    run("e2fsck", "-fn", str(image))


class _Screen(PlainScreen):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, sentence: str) -> None:
        self.warnings.append(sentence)


def test_a_clone_of_a_running_system_is_mended_and_it_is_said(tmp_path: Path) -> None:
    image = tmp_path / "image"
    with image.open("wb") as stream:
        stream.truncate(64 << 20)
    folder = tmp_path / "files"
    folder.mkdir()
    for number in range(50):
        (folder / f"file{number}").write_bytes(b"x" * 9000)
    run("mke2fs", "-q", "-t", "ext4", "-d", str(folder), str(image))
    screen = _Screen()
    _check_file_system(str(image), screen)
    assert screen.warnings == []
    run("debugfs", "-w", "-R", "set_inode_field <2> mode 0100644", str(image))
    run("tune2fs", "-E", "force_fsck", str(image))
    _check_file_system(str(image), screen)
    assert len(screen.warnings) == 1
    run("e2fsck", "-fn", str(image))
