# SPDX-License-Identifier: GPL-3.0-or-later
"""What a drill sees on a DPSR disk's control partition, without mounting it."""

from pathlib import Path

import pytest

from core.model.state import State
from core.run import run
from grub import signed, state
from images import inspect
from tests.support.uefi_program import program

MIB = 1 << 20
START = 2 * MIB
CLEAN = State(
    "clean", gen=7, taken="2026-11-22T03:00:05+00:00", txid="0" * 32,
    slot="6f2c2b1e-5f0c-4f6a-9c1e-0d5b7a3e9f10",
)  # fmt: skip


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk.raw"
    with path.open("wb") as stream:
        stream.truncate(80 * MIB)
    script = "label: gpt\nstart=4096, size=147456, type=uefi, name=dpsr-control\n"
    run("sfdisk", "--quiet", "--no-reread", str(path), given=script.encode())
    run("mkfs.fat", "-F", "32", "-s", "1", "--offset", str(START // 512), str(path), "73728")
    run("mmd", "-i", f"{path}@@{START}", "::EFI", "::EFI/BOOT", "::dpsr")
    return path


def put(disk: Path, name: str, data: bytes) -> None:
    run("mcopy", "-D", "o", "-i", f"{disk}@@{START}", "-", f"::{name}", given=data)


def look(disk: Path, folder: Path) -> inspect.Control:
    return inspect.control(disk, disk.read_bytes()[: inspect.HEAD], folder)


def test_generation_and_signatures(disk: Path, tmp_path: Path) -> None:
    assert look(disk, tmp_path) == inspect.Control()
    put(disk, state.FILE, state.pack(CLEAN))
    put(disk, "EFI/BOOT/BOOTX64.EFI", program(b"GRUB", signature=b""))
    assert look(disk, tmp_path) == inspect.Control(7, secure=False)
    for name in signed.names():
        assert not look(disk, tmp_path).secure, f"{name} is not there yet"
        put(disk, name, program(b"of Debian"))
    assert look(disk, tmp_path) == inspect.Control(7, secure=True)


def test_another_disk_has_none(tmp_path: Path) -> None:
    path = tmp_path / "empty.raw"
    path.write_bytes(bytes(2 * MIB))
    assert look(path, tmp_path) == inspect.Control()
