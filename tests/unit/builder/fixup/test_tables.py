# SPDX-License-Identifier: GPL-3.0-or-later
"""fstab and crypttab of the copy."""

import pytest

from builder.fixup.names import Names
from builder.fixup.tables import PATIENCE, fix_crypttab, fix_fstab
from tests.support.data import DATA
from tests.support.renaming import (
    DEBIAN12,
    DEBIAN13,
    NEW_BOOT,
    NEW_EFI,
    NEW_ROOT,
    NEW_SWAP,
    pair,
)


@pytest.mark.parametrize(("file", "names"), [("debian12", DEBIAN12), ("debian13", DEBIAN13)])
def test_a_real_fstab_names_the_copy_alone(file: str, names: Names) -> None:
    text = (DATA / "fstab" / file).read_text()
    fixed = fix_fstab(text, names)
    assert names.remaining(text)
    assert not names.remaining(fixed)
    assert "nofail" not in fixed
    assert fix_fstab(fixed, names) == fixed
    assert len(fixed.splitlines()) == len(text.splitlines())


def test_lines_keep_their_shape() -> None:
    text = (
        "# comment\n"
        "UUID=ac4cd121-9281-45d9-98fa-6b628670e306  /\text4 errors=remount-ro 0 1\n"
        '  "LABEL=old\\040root" /again ext4 defaults\n'
        "/dev/sda5 none swap sw 0 0   # the swap\n"
        "/swapfile none swap sw 0 0\n"
        "tmpfs /tmp tmpfs nosuid 0 0\n"
        "server:/x /net nfs defaults 0 0\n"
        "/dev/sr0 /media/cdrom0 udf,iso9660 user,noauto 0 0\n"
    )
    assert fix_fstab(text, DEBIAN12) == (
        "# comment\n"
        f"UUID={NEW_ROOT}  /\text4 errors=remount-ro 0 1\n"
        f'  "UUID={NEW_ROOT}" /again ext4 defaults\n'
        f"/dev/disk/by-uuid/{NEW_SWAP} none swap sw 0 0   # the swap\n"
        "/swapfile none swap sw 0 0\n"
        "tmpfs /tmp tmpfs nosuid 0 0\n"
        "server:/x /net nfs defaults 0 0\n"
        "/dev/sr0 /media/cdrom0 udf,iso9660 user,noauto 0 0\n"
    )


def test_the_boot_does_not_wait_for_what_is_not_in_the_set() -> None:
    text = (
        "UUID=77777777-7777-4777-8777-777777777777 /home ext4 defaults 0 2\n"
        "/dev/sdb2 /data ext4\n"
        "LABEL=usb /usb ext4 nofail 0 0\n"
        "/home/shared /srv none bind 0 0\n"
        "/homes/other /opt none bind 0 0\n"
        "/home/swap none swap sw 0 0\n"
    )
    fixed = fix_fstab(text, DEBIAN12)
    assert fixed == (
        f"UUID=77777777-7777-4777-8777-777777777777 /home ext4 defaults,nofail,{PATIENCE} 0 2\n"
        f"/dev/sdb2 /data ext4\tdefaults,nofail,{PATIENCE}\n"
        f"LABEL=usb /usb ext4 nofail,{PATIENCE} 0 0\n"
        f"/home/shared /srv none bind,nofail,{PATIENCE} 0 0\n"
        "/homes/other /opt none bind 0 0\n"
        f"/home/swap none swap sw,nofail,{PATIENCE} 0 0\n"
    )
    assert fix_fstab(fixed, DEBIAN12) == fixed


def test_the_copy_never_writes_to_swap_of_the_primary() -> None:
    text = (
        "/dev/sdb3 none swap sw 0 0\n"
        "/dev/zram0 none swap sw 0 0\n"
        "/dev/mapper/cryptswap none swap sw 0 0\n"
    )
    fixed = fix_fstab(text, DEBIAN12)
    assert fixed == (
        "# not on this copy: /dev/sdb3 none swap sw 0 0\n"
        f"/dev/zram0 none swap sw,nofail,{PATIENCE} 0 0\n"
        f"/dev/mapper/cryptswap none swap sw,nofail,{PATIENCE} 0 0\n"
    )
    assert fix_fstab(fixed, DEBIAN12) == fixed
    text = "cryptswap /dev/sdb3 /dev/urandom swap,cipher=aes-xts-plain64\n"
    fixed = fix_crypttab(text, DEBIAN12)
    assert fixed == f"# not on this copy: {text}"
    assert fix_crypttab(fixed, DEBIAN12) == fixed


def test_options_are_renamed_too() -> None:
    line = "UUID=ee329f32-d2e8-4efe-ac84-0b7ae563332d /boot ext4 x-systemd.requires=/dev/sda2 0 0\n"
    assert fix_fstab(line, DEBIAN12) == (
        f"UUID={NEW_BOOT} /boot ext4 x-systemd.requires=/dev/disk/by-uuid/{NEW_ROOT} 0 0\n"
    )
    assert NEW_EFI in fix_fstab("UUID=B9A0-2928 /boot/efi vfat umask=0077 0 1", DEBIAN13)


def test_a_mapping_in_a_plain_slot_goes_and_others_do_not_wait() -> None:
    names = Names((pair("/", "ext4", "u" * 36, NEW_ROOT, "/dev/mapper/root_crypt"),))
    text = (
        "# name source key options\n"
        "root_crypt UUID=12345678-1234-4234-8234-123456789abc none luks,discard\n"
        "other /dev/sdb7 none\n"
        "more /dev/sdb8 /key luks,nofail\n"
    )
    fixed = fix_crypttab(text, names)
    assert fixed == (
        "# name source key options\n"
        "\n"
        f"other\t/dev/sdb7\tnone\tnofail,{PATIENCE}\n"
        f"more\t/dev/sdb8\t/key\tluks,nofail,{PATIENCE}\n"
    )
    assert fix_crypttab(fixed, names) == fixed
