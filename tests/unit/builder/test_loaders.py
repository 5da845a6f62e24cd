# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a loader is written again, and what is left alone."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from builder import loaders
from builder.check import sums
from core.model.machine import Disk
from grub import install, signed
from tests.support.uefi_program import program
from tests.support.vault_disk import Silent

OUTSIDE = {sums.BOOT_SECTOR: b"boot", sums.BIOS_IMAGE: b"core"}
MENU = {"grub/grub.cfg": b"a menu", "EFI/debian/grub.cfg": b"a menu", "grub/dpsr/a.txt": b"look"}
SIGNED = signed.Signed(
    tuple((name, program(name.encode() + b"/EFI/debian\0")) for name in signed.names()), "a test"
)
DISK = Disk(
    "/dev/none", (8, 0), "none", "", "", 0, 512, "scsi", "", False, False, "gpt", "", (), ()
)


@pytest.fixture
def control(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A control partition as `prepare` leaves it; `installs` below counts the installer's runs."""
    monkeypatch.setattr(sums, "raw_of", lambda _: OUTSIDE)
    for name, data in {**MENU, **dict(SIGNED.files), "grub/i386-pc/normal.mod": b"module"}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    sums.keep_loader(tmp_path, OUTSIDE)
    return tmp_path


@pytest.fixture
def installs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    seen: list[str] = []

    def install_loader(disk: str, control: Path, files: Mapping[str, bytes]) -> None:
        seen.append(disk)
        (control / "grub/i386-pc/normal.mod").write_bytes(b"module")
        (control / install.REMOVABLE).write_bytes(b"unsigned")
        install.write_menu(control, files)

    monkeypatch.setattr(install, "install_loader", install_loader)
    return seen


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signed, "find", lambda: SIGNED)


def inodes(control: Path) -> dict[str, int]:
    return {
        str(path.relative_to(control)): path.stat().st_ino
        for path in control.rglob("*")
        if path.is_file()
    }


def test_what_is_good_is_left_alone(control: Path, installs: list[str]) -> None:
    before = inodes(control)
    loaders.mend(DISK, control, MENU, Silent())
    assert installs == []
    assert inodes(control) == before


@pytest.mark.parametrize("name", ["grub/grub.cfg", "EFI/BOOT/grubx64.efi", "EFI/BOOT/BOOTX64.EFI"])
def test_what_we_write_ourselves_is_written_alone(
    control: Path, installs: list[str], name: str
) -> None:
    (control / name).write_bytes(b"damaged")
    before = inodes(control)
    loaders.mend(DISK, control, MENU, Silent())
    assert installs == []
    after = inodes(control)
    changed = {one for one in after if after[one] != before.get(one)}
    assert changed - {"dpsr/sums", "grub/grubenv"} == {name}
    assert sums.check(control, OUTSIDE) == ([], [])


def test_a_newer_menu_is_written_and_listed(control: Path, installs: list[str]) -> None:
    loaders.mend(DISK, control, MENU | {"grub/grub.cfg": b"a newer menu"}, Silent())
    assert installs == []
    assert (control / "grub/grub.cfg").read_bytes() == b"a newer menu"
    assert sums.check(control, OUTSIDE) == ([], [])


def test_a_damaged_module_needs_grubs_installer(control: Path, installs: list[str]) -> None:
    (control / "grub/i386-pc/normal.mod").write_bytes(b"damaged")
    loaders.mend(DISK, control, MENU, Silent())
    assert installs == [DISK.path]
    assert SIGNED.differing(control) == (), "shim stands where GRUB's installer put its own"
    assert sums.check(control, OUTSIDE) == ([], [])


def test_a_damaged_loader_without_signed_programs_needs_it_too(
    control: Path, installs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signed, "find", lambda: None)
    (control / install.REMOVABLE).write_bytes(b"damaged")
    loaders.mend(DISK, control, MENU, Silent())
    assert installs == [DISK.path]


def test_a_disk_without_list_gets_all_of_it(control: Path, installs: list[str]) -> None:
    (control / "dpsr/sums").unlink()
    loaders.mend(DISK, control, MENU, Silent())
    assert installs == [DISK.path]
    assert sums.check(control, OUTSIDE) == ([], [])


def test_a_rescue_system_that_is_damaged_is_not_the_loaders_business(
    control: Path, installs: list[str]
) -> None:
    (control / "dpsr/r-1").mkdir()
    (control / "dpsr/r-1/vmlinuz").write_bytes(b"kernel")
    sums.keep_folder(control / "dpsr/r-1")
    (control / "dpsr/r-1/vmlinuz").write_bytes(b"damaged")
    loaders.mend(DISK, control, MENU, Silent())
    assert installs == []


def test_damage_that_was_listed_stays_told(control: Path) -> None:
    """The list of shim alone is renewed: what else is damaged must not become right by that."""
    (control / "grub/i386-pc/normal.mod").write_bytes(b"damaged")
    (control / "EFI/BOOT/mmx64.efi").write_bytes(b"newer")
    assert not sums.agree(control, signed.names())
    sums.renew(control, signed.names())
    assert sums.agree(control, signed.names())
    assert sums.check(control, OUTSIDE) == (["grub/i386-pc/normal.mod"], [])


def test_without_a_list_none_is_begun(control: Path) -> None:
    (control / "dpsr/sums").unlink()
    sums.renew(control, signed.names())
    assert sums.agree(control, signed.names())
    assert not (control / "dpsr/sums").exists()
