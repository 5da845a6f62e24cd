# SPDX-License-Identifier: GPL-3.0-or-later
"""Slots with real file systems: what a mount, a lost write and random damage make of them."""

import random
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from builder.copying.direct import Reader
from builder.vault import chain, fingerprint, manifests, unlike
from core.model.manifest import Manifest, SlotState
from core.model.state import State
from core.run import run
from tests.support.block import image, loop, mounted
from tests.support.vault_disk import manifest_of

AT = 1024


def generation(vault: Path, slot: Path, number: int, parent: str = "") -> Manifest:
    """The manifest of what the slot holds now."""
    with closing(Reader(str(slot))) as reader:
        superblock, journal = fingerprint.of_ext4(reader)
    known = SlotState("root", "/", "ext4", 3, 0, slot.stat().st_size, superblock, journal)
    manifest = replace(manifest_of(number, f"{number:032x}"), slots=(known,), parent=parent)
    manifests.write(vault, manifest)
    return manifest


@pytest.fixture
def slot(tmp_path: Path) -> Path:
    path = image(tmp_path / "slot", 16 << 20)
    run("mke2fs", "-q", "-t", "ext4", "-O", "metadata_csum", str(path))
    (tmp_path / "vault").mkdir()
    return path


def looked(vault: Path, last: Manifest, slot: Path) -> list[str]:
    return [each.why for each in unlike.examine(vault, last, lambda _: str(slot))]


def boot(slot: Path) -> None:
    """The copy is started, and nothing else."""
    with loop(slot) as device, mounted(device, slot.with_name("mnt")):
        pass


def zeros(slot: Path) -> None:
    with slot.open("r+b") as stream:
        stream.write(bytes(4096))


def rot(slot: Path) -> None:
    with slot.open("r+b") as stream:
        stream.seek(AT)
        stream.write(random.Random(3).randbytes(512))


def one_bit(slot: Path) -> None:
    with slot.open("r+b") as stream:
        stream.seek(AT + 0x34)  # the mount count, of all things
        byte = stream.read(1)[0]
        stream.seek(AT + 0x34)
        stream.write(bytes([byte ^ 4]))


@pytest.mark.parametrize(
    ("act", "why"), [(boot, "work"), (zeros, "lost"), (rot, "damage"), (one_bit, "damage")]
)
def test_what_is_found(slot: Path, act: Callable[[Path], None], why: str) -> None:
    vault = slot.with_name("vault")
    last = generation(vault, slot, 1)
    assert looked(vault, last, slot) == []
    act(slot)
    assert looked(vault, last, slot) == [why]


def test_writes_that_were_lost_show_the_generation_before(slot: Path) -> None:
    vault = slot.with_name("vault")
    generation(vault, slot, 1)
    before = slot.read_bytes()
    boot(slot)  # of the primary: its superblock comes with the next backup
    last = generation(vault, slot, 2)
    with slot.open("r+b") as stream:
        stream.write(before[:4096])
    assert looked(vault, last, slot) == ["lost"]
    for _ in range(2):  # within one second the first makes just what the lost one was
        boot(slot)
    assert looked(vault, last, slot) == ["work"]


@pytest.mark.parametrize("content", [None, bytes(4096)])
def test_a_manifest_that_was_lost_leaves_the_others_alone(
    slot: Path, content: bytes | None
) -> None:
    """They know the slots' names, until the next update has made another."""
    vault = slot.with_name("vault")
    first, last = generation(vault, slot, 1), generation(vault, slot, 2)
    path = vault / manifests.file_name(last.txid)
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    (vault / "undo-1.part").touch()
    assert manifests.whole(vault, last.txid) is None
    chain.sweep(vault, State("clean", gen=2, taken=last.taken, txid=last.txid, slot="AB-12"))
    assert manifests.readable(vault) == [first]
    assert not (vault / "undo-1.part").exists()
