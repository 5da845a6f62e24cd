# SPDX-License-Identifier: GPL-3.0-or-later
"""The state block under GRUB's own tool, and where a real file system puts it."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.errors import StateUnreadable
from core.model.state import State
from core.run import run
from grub.envblock import EMPTY
from grub.state import FILE, create, locate, pack, parse, read_state, write_state

CLEAN = State(
    state="clean",
    gen=12,
    taken="2025-11-22T03:00:05+00:00",
    txid="0123456789abcdef0123456789abcdef",
    slot="6f2c2b1e-5f0c-4f6a-9c1e-0d5b7a3e9f10",
    extra=(("later", "kept"),),
)


def test_grub_reads_the_state_and_rewrites_it_in_its_first_sector(tmp_path: Path) -> None:
    block = tmp_path / "state"
    block.write_bytes(pack(CLEAN))
    listed = dict(line.split("=", 1) for line in run("grub-editenv", str(block), "list").split())
    assert listed["state"] == "clean"
    assert listed["slot"] == CLEAN.slot
    run("grub-editenv", str(block), "set", "booted=1")
    assert parse(block.read_bytes()) == dataclasses.replace(CLEAN, booted=True)


def test_grub_takes_our_empty_block_for_its_own(tmp_path: Path) -> None:
    block = tmp_path / "grubenv"
    block.write_bytes(EMPTY)
    assert run("grub-editenv", str(block), "list") == ""
    run("grub-editenv", str(block), "set", "saved_entry=a>b")
    assert run("grub-editenv", str(block), "list") == "saved_entry=a>b\n"


@pytest.fixture
def control(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A whole disk with a file system, and where it is mounted."""
    image = tmp_path / "disk.img"
    with open(image, "wb") as stream:
        stream.truncate(64 << 20)
    run("mkfs.ext4", "-q", "-b", "1024", str(image))
    device = run("losetup", "--find", "--show", str(image)).strip()
    folder = tmp_path / "control"
    folder.mkdir()
    try:
        run("mount", device, str(folder))
        try:
            yield device, folder
        finally:
            run("umount", str(folder), ok=(0, 32))
    finally:
        run("losetup", "--detach", device)


def test_the_block_is_found_on_the_disk_and_survives_a_mount(control: tuple[str, Path]) -> None:
    device, folder = control
    create(folder, State(state="building"))
    offset = locate(folder)
    assert offset % 512 == 0
    run("umount", str(folder))
    write_state(device, offset, CLEAN)
    assert read_state(device, offset) == CLEAN
    run("mount", device, str(folder))
    assert parse((folder / FILE).read_bytes()) == CLEAN
    create(folder, dataclasses.replace(CLEAN, gen=13))
    assert locate(folder) == offset


def test_a_block_that_has_no_place_on_the_disk_is_refused(control: tuple[str, Path]) -> None:
    _, folder = control
    create(folder, State(state="building"))
    for size in (0, 1024):
        (folder / FILE).write_bytes(b"")
        with open(folder / FILE, "wb") as stream:
            stream.truncate(size)  # a hole
        with pytest.raises(StateUnreadable, match="in one piece"):
            locate(folder)
