# SPDX-License-Identifier: GPL-3.0-or-later
"""The entries of Debian's own boot menus, as the rescue system reads them."""

import pytest

from recovery.bootentry import default, entries
from tests.support.data import DATA

UEFI = (DATA / "grubcfg/debian13-uefi.cfg").read_text("utf-8")
BIOS = (DATA / "grubcfg/debian12-bios-boot.cfg").read_text("utf-8")
UUID = "3d6435d5-f45d-49dd-940b-99178448a6e5"


def test_the_first_entry_is_the_default() -> None:
    first = default(UEFI)
    assert first is not None
    assert first.title == "Debian GNU/Linux"
    assert first.kernel == "/boot/vmlinuz-6.12.107+deb13-cloud-amd64"
    assert first.initrds == ("/boot/initrd.img-6.12.107+deb13-cloud-amd64",)
    assert first.root == UUID
    assert first.arguments == f"root=UUID={UUID} ro console=tty0 console=ttyS0"


def test_a_boot_file_system_of_its_own() -> None:
    first = default(BIOS)
    assert first is not None
    assert first.kernel.startswith("/vmlinuz-")


@pytest.mark.parametrize(
    "saved",
    [
        f"gnulinux-advanced-{UUID}>gnulinux-6.12.107+deb13-cloud-amd64-recovery-{UUID}",
        "Debian GNU/Linux, with Linux 6.12.107+deb13-cloud-amd64 (recovery mode)",
    ],
)
def test_a_saved_entry_counts_where_the_menu_asks_for_it(saved: str) -> None:
    text = UEFI.replace('set default="0"', 'set default="${saved_entry}"')
    chosen = default(text, saved)
    assert chosen is not None
    assert "single" in chosen.arguments.split()
    gone = default(text, "an entry that is gone")
    assert gone == default(UEFI)


@pytest.mark.parametrize(
    ("wanted", "recovery"),
    [
        ("0", False), ("1", False), ("1>0", False), ("1>1", True), ("7", False), ("1>7", False),
        ("2", False), ("", False), (f"gnulinux-advanced-{UUID}>1", True),
        ("Advanced options for Debian GNU/Linux>1", True),
    ],
)  # fmt: skip
def test_a_default_by_number(wanted: str, recovery: bool) -> None:
    found = default(UEFI.replace('set default="0"', f'set default="{wanted}"'))
    assert found is not None
    assert ("single" in found.arguments.split()) == recovery
    assert (found.title == "Debian GNU/Linux") == (wanted not in {"1", "1>0"} and not recovery)


def test_entries_without_a_kernel_are_none() -> None:
    assert len(entries(UEFI)) == 3
    assert entries("menuentry 'Firmware' {\n fwsetup\n}\n") == ()
    assert default("") is None


def test_what_hangs_on_variables_is_left_out() -> None:
    text = (
        "menuentry 'it''s' --class x $menuentry_id_option 'an-id' {\n"
        "  linux ($root)/vmlinuz root=/dev/sda1 $vt_handoff ${more} quiet\n"
        "  initrd $early /initrd.img\n}\n"
    )
    (found,) = entries(text)
    assert (found.id, found.arguments, found.initrds) == (
        "an-id", "root=/dev/sda1 quiet", ("/initrd.img",)
    )  # fmt: skip
    assert found.root == ""


def test_an_entry_that_cannot_be_read_has_no_title() -> None:
    (found,) = entries("menuentry 'no end {\n linux /vmlinuz ro\n initrd /initrd.img\n}\n")
    assert found.title == ""
