# SPDX-License-Identifier: GPL-3.0-or-later
"""Every kind of ext file system takes a new UUID and stays whole."""

from pathlib import Path

import pytest

from builder.fixup.uuids import features, set_ext4, superblock
from core.model.copy import Identity
from core.run import run

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
