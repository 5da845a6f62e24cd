# SPDX-License-Identifier: GPL-3.0-or-later
"""What is taken for a good loader, and what is not."""

import struct
from pathlib import Path
from uuid import UUID

import pytest

from core.errors import LoaderFailed
from grub import gpt
from grub.clone import stub
from grub.install import check_bios, check_uefi, fat_uuid, write_menu

SECTOR = 512
START = 2048


def a_disk(path: Path, core: bytes, *, leads_to: int = START, table: bool = True) -> Path:
    """A disk whose BIOS boot partition begins at sector START; its folder of GRUB is returned."""
    image = bytearray(4 << 20)
    image[0x180:0x185] = b"GRUB "
    image[510:512] = b"\x55\xaa"
    struct.pack_into("<Q", image, 0x5C, leads_to)
    image[START * SECTOR : START * SECTOR + len(core)] = core
    # grub-bios-setup patches the copy on the disk
    image[START * SECTOR + 0x1F4] ^= 0xFF
    image[START * SECTOR + 0x210] ^= 0xFF
    if table:
        image[512:520] = b"EFI PART"
        struct.pack_into("<QII", image, 512 + 72, 2, 4, 128)
        for index, (kind, first) in enumerate([(UUID(int=7), 34), (gpt.BIOS_BOOT, START)]):
            entry = kind.bytes_le + bytes(16) + struct.pack("<QQ", first, first + 10)
            image[1024 + 128 * index : 1024 + 128 * index + 48] = entry
    path.write_bytes(image)
    folder = path.with_suffix(".grub")
    (folder / "i386-pc").mkdir(parents=True)
    (folder / "i386-pc/core.img").write_bytes(core)
    return folder


CORE = bytes(range(256)) * 100


def test_a_boot_sector_that_leads_to_its_core_image_is_good(tmp_path: Path) -> None:
    for table in (True, False):
        disk = tmp_path / f"disk{table}"
        check_bios(str(disk), a_disk(disk, CORE, table=table))


def test_a_boot_sector_that_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    folder = a_disk(disk, CORE, leads_to=START + 1)
    with pytest.raises(LoaderFailed, match="BIOS boot partition"):
        check_bios(str(disk), folder)


def test_another_core_image_is_refused(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    folder = a_disk(disk, CORE)
    (folder / "i386-pc/core.img").write_bytes(CORE[:-1] + b"x")
    with pytest.raises(LoaderFailed, match="core image"):
        check_bios(str(disk), folder)


def test_a_boot_sector_of_somebody_else_is_refused(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    folder = a_disk(disk, CORE)
    image = bytearray(disk.read_bytes())
    image[0x180:0x185] = b"LILO "
    disk.write_bytes(image)
    with pytest.raises(LoaderFailed, match="not GRUB's"):
        check_bios(str(disk), folder)


def test_partitions_are_found_by_their_type(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    a_disk(disk, CORE)
    assert gpt.start_of(str(disk), gpt.BIOS_BOOT) == START * SECTOR
    assert gpt.start_of(str(disk), UUID(int=8)) is None
    bare = tmp_path / "bare"
    a_disk(bare, CORE, table=False)
    assert gpt.start_of(str(bare), gpt.BIOS_BOOT) is None


def loader(esp: Path, machine: int = 0x8664, config: bytes = b"") -> None:
    image = bytearray(1024)
    image[:2] = b"MZ"
    struct.pack_into("<I", image, 0x3C, 128)
    image[128:134] = b"PE\0\0" + struct.pack("<H", machine)
    (esp / "EFI/BOOT").mkdir(parents=True, exist_ok=True)
    (esp / "EFI/BOOT/BOOTX64.EFI").write_bytes(bytes(image) + config)


def test_a_uefi_loader_may_search_for_its_own_file_system_only(tmp_path: Path) -> None:
    loader(tmp_path)
    check_uefi(tmp_path, "1234-ABCD")
    loader(tmp_path, config=b"search.fs_uuid 1234-abcd root hd0,gpt2\n")
    check_uefi(tmp_path, "1234-ABCD")
    loader(tmp_path, config=b"search.fs_uuid 6f2c2b1e-5f0c-4f6a-9c1e-0d5b7a3e9f10 root \n")
    with pytest.raises(LoaderFailed, match="6f2c2b1e"):
        check_uefi(tmp_path, "1234-ABCD")


def test_what_is_no_uefi_loader_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LoaderFailed, match="no UEFI loader"):
        check_uefi(tmp_path, "1234-ABCD")
    loader(tmp_path, machine=0x14C)
    with pytest.raises(LoaderFailed, match="no UEFI loader"):
        check_uefi(tmp_path, "1234-ABCD")
    (tmp_path / "EFI/BOOT/BOOTX64.EFI").write_bytes(b"MZ")
    with pytest.raises(LoaderFailed, match="no UEFI loader"):
        check_uefi(tmp_path, "1234-ABCD")


def test_the_uuid_of_a_fat_file_system_is_written_as_blkid_does(tmp_path: Path) -> None:
    image = tmp_path / "fat"
    image.write_bytes(bytes(1024 + 0x43) + bytes.fromhex("96 3f 53 18") + bytes(1024))
    assert fat_uuid(str(image), 1024) == "1853-3F96"


def test_each_script_gets_an_empty_environment_beside_it(tmp_path: Path) -> None:
    (tmp_path / "grub").mkdir()
    (tmp_path / "grub/grubenv").write_text("saved_entry=of another copy")
    write_menu(tmp_path, {"grub/grub.cfg": b"1", "EFI/debian/grub.cfg": b"2", "grub/dpsr/a": b"3"})
    for folder in ("grub", "EFI/debian"):
        assert (tmp_path / folder / "grubenv").read_bytes() == (
            b"# GRUB Environment Block\n".ljust(1024, b"#")
        )
    assert (tmp_path / "grub/dpsr/a").read_bytes() == b"3"
    assert not (tmp_path / "grub/dpsr/grubenv").exists()


def test_the_stub_of_a_clone_names_its_own_file_system() -> None:
    assert stub("1234", "/boot/grub").splitlines() == [
        "search.fs_uuid 1234 root",
        "set prefix=($root)'/boot/grub'",
        "configfile $prefix/grub.cfg",
    ]
