# SPDX-License-Identifier: GPL-3.0-or-later
"""Manifests are read back as written; strangers are refused; version 1 stays readable."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from builder.vault import manifests
from core.errors import UnknownFormat
from core.model.copy import Fixups, Identity, Pair
from core.model.figures import RunFigures
from core.model.manifest import DigestFile, Manifest, SlotState

FORMATS = Path(__file__).parents[2] / "data" / "formats"

MANIFEST = Manifest(
    name="system",
    txid="00112233445566778899aabbccddeeff",
    generation=1,
    parent="",
    undo_log="",
    taken="2026-11-22T18:00:00+00:00",
    hostname="server",
    kernel="6.12.0-1-amd64",
    disk_guid="11111111-2222-3333-4444-555555555555",
    slots=(SlotState("root", "/", "ext4", 3, 2**30, 2**31, "aa" * 16, "bb" * 16),),
    pairs=(
        Pair(
            "/",
            "ext4",
            Identity("old-uuid", "", "old-partuuid", "", ("/dev/sda1",)),
            Identity("new-uuid", "dpsr-root", "new-partuuid", "dpsr-slot-root"),
        ),
    ),
    fixups=(Fixups("root", ((0, 4096), (8192, 12288)), ("/etc/fstab",)),),
    figures=RunFigures(12.5, 10**9, 10**9, 3, 0.08, "used"),
)


def test_a_manifest_is_read_back_as_written(tmp_path: Path) -> None:
    manifests.write(tmp_path, MANIFEST)
    assert manifests.read(tmp_path, MANIFEST.txid) == MANIFEST


def test_every_version_stays_readable() -> None:
    first, second, third = (FORMATS / f"manifest-v{version}.json" for version in (1, 2, 3))
    assert manifests.decode(first.read_bytes(), first.name) == MANIFEST
    kept_back = replace(MANIFEST.slots[0], taken="2026-11-21T18:00:00+00:00")
    wanted = replace(MANIFEST, slots=(kept_back,))
    assert manifests.decode(second.read_bytes(), second.name) == wanted
    digests = tuple(
        DigestFile(f"digests-{number:032x}.bin", f"{number:02x}" * 16) for number in (2, 1)
    )
    wanted = replace(wanted, digests=digests)
    assert manifests.decode(third.read_bytes(), third.name) == wanted
    assert manifests.encode(wanted) == third.read_bytes()


@pytest.mark.parametrize(
    "change", [{"version": 4}, {"format": "other"}, {"manifest": {}}, {"manifest": {"name": 1}}]
)
def test_strangers_are_refused(change: dict[str, object]) -> None:
    document = json.loads(manifests.encode(MANIFEST)) | change
    with pytest.raises(UnknownFormat):
        manifests.decode(json.dumps(document).encode(), "manifest")


def test_a_torn_file_is_refused() -> None:
    with pytest.raises(UnknownFormat):
        manifests.decode(manifests.encode(MANIFEST)[:200], "manifest")


def test_clear_leaves_no_manifest(tmp_path: Path) -> None:
    manifests.write(tmp_path, MANIFEST)
    manifests.clear(tmp_path)
    assert list(tmp_path.iterdir()) == []
