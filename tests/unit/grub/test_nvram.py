# SPDX-License-Identifier: GPL-3.0-or-later
"""What efibootmgr prints, captured in guests and as real machines have it."""

from pathlib import Path

import pytest

from grub.nvram import Entry, Nvram, parse

CAPTURED = Path(__file__).parents[2] / "data" / "efibootmgr"


@pytest.mark.parametrize(
    ("name", "primary", "control"),
    [
        (
            "v17-debian12-ovmf.txt",
            "d26d42c8-f474-7b70-731b-be9a586496dd",
            "8dd889ad-bd6c-cd41-87a8-ba589d275bfe",
        ),
        (
            "v18-debian13-ovmf.txt",
            "5e51afd2-4040-26da-7604-0acf2c268a9e",
            "058021c7-63fd-41aa-9f4e-185b33e3cac0",
        ),
    ],
)
def test_both_versions_of_efibootmgr_say_the_same(name: str, primary: str, control: str) -> None:
    assert parse((CAPTURED / name).read_text()) == Nvram(
        current=1,
        next=None,
        order=(1, 0, 2, 3),
        entries=(
            Entry(0, "UiApp", True, "", "", "tool"),
            Entry(1, "debian", True, primary, "\\EFI\\debian\\grubx64.efi", "file"),
            Entry(2, "UEFI Misc Device", True, "", "", "other"),
            Entry(3, "EFI Internal Shell", True, "", "", "shell"),
            Entry(4, "DPSR recovery", True, control, "\\EFI\\BOOT\\BOOTX64.EFI", "file"),
        ),
    )


GUID = "bf78d357-0000-4000-8000-08dd40d8761f"


PCI = "PciRoot(0x0)/Pci(0x1c,0x0)"


@pytest.mark.parametrize(
    ("line", "entry"),
    [
        (  # Windows stores data behind the path
            f"Boot0000* Win\tHD(1,GPT,{GUID.upper()},0x800,0x32000)/File(\\EFI\\boot.efi)WINDOWS",
            Entry(0, "Win", True, GUID, "\\EFI\\boot.efi", "file"),
        ),
        (  # newer libefivar prints the path as it is
            f"Boot00AF* stub\tHD(1,GPT,{GUID},0x800,0x96000)/\\EFI\\BOOT\\vmlinuz root=/dev/sda2",
            Entry(0xAF, "stub", True, GUID, "\\EFI\\BOOT\\vmlinuz", "file"),
        ),
        (
            "Boot0001  old\tHD(2,MBR,0x1a2b3c,0x800,0x32000)/File(\\EFI\\BOOT\\BOOTX64.EFI)",
            Entry(1, "old", False, "001a2b3c-02", "\\EFI\\BOOT\\BOOTX64.EFI", "file"),
        ),
        (
            f"Boot0019* stick\tPciRoot(0x0)/USB(3,0)/HD(1,GPT,{GUID},0x800,0x1000)",
            Entry(0x19, "stick", True, GUID, "", "removable"),
        ),
        ("Boot001F* bare", Entry(0x1F, "bare", True, "", "", "other")),
    ],
)
def test_entries_of_real_machines(line: str, entry: Entry) -> None:
    assert parse(line).entries == (entry,)


@pytest.mark.parametrize(
    ("label", "path", "way"),
    [
        ("Setup", "FvFile(721c8b66-426c-4e86-8e99-3457c46ab0b9)", "tool"),
        ("UEFI: Built-in EFI Shell", "VenMedia(5023b95c-db26-429b-a648-bd47664c8012)", "shell"),
        ("IBA GE Slot 00C8", "BBS(Network,,0x0)", "network"),
        ("UEFI: NIC", f"{PCI}/MAC(0011223344ff,1)/IPv4(0.0.0.0,0,DHCP)", "network"),
        ("PXE BOOT:", "VenMsg(bc7838d2,78a84aaf)", "network"),
        ("USB HDD:", "VenMsg(bc7838d2,33e821723f71)", "removable"),
        ("CD/DVD Drive", "BBS(CDROM,,0x0)", "removable"),
        ("Hard Drive", "BBS(HD,,0x0)", "other"),
        ("UEFI Samsung", f"{PCI}/NVMe(0x1,00-25)N.....YM", "other"),
    ],
)
def test_what_an_entry_leads_to(label: str, path: str, way: str) -> None:
    assert [entry.way for entry in parse(f"Boot0010* {label}\t{path}").entries] == [way]


def test_the_words_around_the_entries() -> None:
    nvram = parse(
        "BootNext: 000A\nBootCurrent: 0001\nTimeout: 0 seconds\nBootOrder: 0001,000A\n"
        "MirroredPercentageAbove4G: 0.00\nMirrorMemoryBelow4GB: false\n"
    )
    assert nvram == Nvram(current=1, next=10, order=(1, 10), entries=())
    assert parse("BootOrder: \n") == parse("") == Nvram(None, None, (), ())
