# SPDX-License-Identifier: GPL-3.0-or-later
"""The control partition is held against its lists: what differs is named."""

from pathlib import Path

import pytest

from builder.check import sums

OUTSIDE = {sums.BOOT_SECTOR: b"boot", sums.BIOS_IMAGE: b"core"}


@pytest.fixture
def control(tmp_path: Path) -> Path:
    for name in (
        "EFI/BOOT/BOOTX64.EFI", "grub/grub.cfg", "grub/grubenv", "dpsr/state",
        "dpsr/r-0123/vmlinuz", "dpsr/r-0123/initrd.img",
    ):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"this is {name}")
    sums.keep_loader(tmp_path, OUTSIDE)
    sums.keep_folder(tmp_path / "dpsr/r-0123")
    return tmp_path


def test_good(control: Path) -> None:
    assert sums.check(control, OUTSIDE) == ([], [])


def test_what_grub_writes_is_no_damage(control: Path) -> None:
    (control / "dpsr/state").write_text("state=clean booted=1")
    (control / "grub/grubenv").write_text("saved_entry=x")
    assert sums.check(control, OUTSIDE) == ([], [])


@pytest.mark.parametrize(
    "name", ["EFI/BOOT/BOOTX64.EFI", "grub/grub.cfg", "dpsr/r-0123/initrd.img", "dpsr/sums"]
)
def test_a_file_that_differs_is_named(control: Path, name: str) -> None:
    data = bytearray((control / name).read_bytes())
    data[len(data) // 2] ^= 1
    (control / name).write_bytes(data)
    assert sums.check(control, OUTSIDE) == ([name], [])


def test_a_file_that_is_missing_is_named(control: Path) -> None:
    (control / "dpsr/r-0123/vmlinuz").unlink()
    assert sums.check(control, OUTSIDE) == (["dpsr/r-0123/vmlinuz"], [])


def test_what_lies_outside_of_files(control: Path) -> None:
    assert sums.check(control, OUTSIDE | {sums.BIOS_IMAGE: b"c0re"}) == ([sums.BIOS_IMAGE], [])


def test_older_disks_have_no_lists(control: Path) -> None:
    (control / "dpsr/sums").unlink()
    (control / "dpsr/r-0123/sums").unlink()
    assert sums.check(control, OUTSIDE) == ([], ["the boot loader", "r-0123"])


def test_the_format_stays_readable() -> None:
    sample = Path(__file__).parents[3] / "data" / "formats" / "sums-v1"
    known = {"grub/grub.cfg": "ab" * 16, "with  two spaces": "cd" * 16}
    assert sums.decode(sample.read_bytes()) == known
    assert sums.encode(known) == sample.read_bytes()
