# SPDX-License-Identifier: GPL-3.0-or-later
"""GRUB's files and kernel command lines of the copy."""

import pytest

from builder.fixup.bootconfig import (
    fix_command_lines,
    fix_grub_cfg,
    fix_grubenv,
    fix_mdadm,
    fix_resume,
)
from builder.fixup.names import Names
from tests.support.data import DATA
from tests.support.renaming import DEBIAN12, DEBIAN13, NEW_BOOT, NEW_ROOT, NEW_SWAP, pair


@pytest.mark.parametrize(
    ("file", "names", "searches"),
    [("debian12-bios-boot.cfg", DEBIAN12, 3), ("debian13-uefi.cfg", DEBIAN13, 3)],
)
def test_a_real_grub_cfg_finds_the_copy_and_nothing_else(
    file: str, names: Names, searches: int
) -> None:
    text = (DATA / "grubcfg" / file).read_text()
    fixed = fix_grub_cfg(text, names)
    assert not names.remaining(fixed)
    found = [line.split() for line in fixed.splitlines() if line.split()[:1] == ["search"]]
    where = NEW_BOOT if names is DEBIAN12 else NEW_ROOT
    assert found == [["search", "--no-floppy", "--fs-uuid", "--set=root", where]] * searches
    assert "hd0" not in fixed
    assert "feature_platform_search_hint" not in fixed
    assert fixed.count(f"root=UUID={NEW_ROOT}") == text.count("root=UUID=")
    assert fixed.count("menuentry '") == text.count("menuentry '")
    assert fix_grub_cfg(fixed, names) == fixed


def test_the_stub_on_the_esp() -> None:
    stub = (
        "search.fs_uuid ac4cd121-9281-45d9-98fa-6b628670e306 root hd0,gpt2 \n"
        "set prefix=($root)'/boot/grub'\n"
        "configfile $prefix/grub.cfg\n"
    )
    fixed = fix_grub_cfg(stub, DEBIAN12)
    assert fixed == (
        f"search.fs_uuid {NEW_ROOT} root\n"
        "set prefix=($root)'/boot/grub'\n"
        "configfile $prefix/grub.cfg\n"
    )


def test_a_search_by_label_becomes_one_by_uuid() -> None:
    names = Names((pair("/", "ext4", "a" * 36, NEW_ROOT, label="rootfs"),))
    assert fix_grub_cfg("search --label --set=root rootfs\n", names) == (
        f"search --fs-uuid --set=root {NEW_ROOT}\n"
    )
    assert fix_grub_cfg("  search.fs_label rootfs root hd0,gpt1\n", names) == (
        f"  search.fs_uuid {NEW_ROOT} root\n"
    )
    assert fix_grub_cfg("search -l other\n", names) == "search -l other\n"


def test_an_entry_for_another_disk_stays() -> None:
    entry = (
        "menuentry 'Windows' {\n\tset root='hd1,gpt1'\n\tchainloader /EFI/x.efi\n}\n"
        "menuentry 'Other' {\n\tset root='hd1,gpt2'\n\tsearch --fs-uuid --set=root 12-34\n}\n"
    )
    assert fix_grub_cfg(entry, DEBIAN12) == (
        "menuentry 'Windows' {\n\tset root='hd1,gpt1'\n\tchainloader /EFI/x.efi\n}\n"
        "menuentry 'Other' {\n\tsearch --fs-uuid --set=root 12-34\n}\n"
    )


def test_what_dpsr_adds_to_the_menu_of_the_primary_goes() -> None:
    text = (
        "### BEGIN /etc/grub.d/05_dpsr_guard ###\nif x; then y; fi\n"
        "### END /etc/grub.d/05_dpsr_guard ###\n\n"
        "### BEGIN /etc/grub.d/10_linux ###\nmenuentry 'Debian' {\n}\n"
        "### END /etc/grub.d/10_linux ###\n"
        "### BEGIN /etc/grub.d/42_dpsr ###\nmenuentry 'DPSR' {\n}\n"
        "### END /etc/grub.d/42_dpsr ###\n"
    )
    fixed = fix_grub_cfg(text, DEBIAN12)
    assert "dpsr" not in fixed.lower()
    assert "menuentry 'Debian'" in fixed


def test_what_dpsr_switch_chose_on_the_primary_is_not_chosen_on_the_copy() -> None:
    assert fix_grub_cfg('   set default="dpsr-night"\n', DEBIAN12) == '   set default="0"\n'
    block = b"# GRUB Environment Block\nnext_entry=dpsr\nsaved_entry=0\n".ljust(1024, b"#")
    fixed = b"# GRUB Environment Block\nsaved_entry=0\n".ljust(1024, b"#")
    assert fix_grubenv(block, DEBIAN12) == fixed


@pytest.mark.parametrize(
    ("line", "fixed"),
    [
        ("resume=UUID=e4565381-dfc1-41e4-8622-77b6ba8f967b", f"resume=UUID={NEW_SWAP}"),
        ('GRUB_CMDLINE_LINUX="quiet resume=/dev/sdz9"', 'GRUB_CMDLINE_LINUX="quiet noresume"'),
        (
            "resume=/dev/sda5 resume_offset=7",
            f"resume=/dev/disk/by-uuid/{NEW_SWAP} resume_offset=7",
        ),
        ("noresume x.resume=/dev/sdz9", "noresume x.resume=/dev/sdz9"),
        ("root=PARTUUID=0a4e203a-02", f"root=PARTUUID=f{NEW_ROOT[1:]}"),
    ],
)
def test_command_lines_resume_from_the_copy_or_not_at_all(line: str, fixed: str) -> None:
    assert fix_command_lines(line, DEBIAN12) == fixed
    assert fix_command_lines(fixed, DEBIAN12) == fixed


@pytest.mark.parametrize(
    ("text", "fixed"),
    [
        ("RESUME=UUID=e4565381-dfc1-41e4-8622-77b6ba8f967b\n", f"RESUME=UUID={NEW_SWAP}\n"),
        ('RESUME="/dev/sdz9"\n', "RESUME=none\n"),
        ("RESUME=none\n", "RESUME=none\n"),
        ("RESUME=auto\nMODULES=dep\n", "RESUME=auto\nMODULES=dep\n"),
    ],
)
def test_the_initrd_resumes_from_the_copy_or_not_at_all(text: str, fixed: str) -> None:
    assert fix_resume(text, DEBIAN12) == fixed


def test_the_environment_block_keeps_its_length() -> None:
    saved = b"saved_entry=gnulinux-simple-ac4cd121-9281-45d9-98fa-6b628670e306\n"
    block = (b"# GRUB Environment Block\n" + saved).ljust(1024, b"#")
    fixed = fix_grubenv(block, DEBIAN12)
    assert len(fixed) == 1024
    assert f"gnulinux-simple-{NEW_ROOT}\n###".encode() in fixed
    assert fix_grubenv(fixed, DEBIAN12) == fixed


def test_arrays_whose_content_has_a_slot_are_not_assembled() -> None:
    names = Names((pair("/", "ext4", "a" * 36, NEW_ROOT, "/dev/md0"),))
    text = "HOMEHOST <system>\nARRAY /dev/md0 UUID=1:2:3:4\nARRAY /dev/md1 UUID=5:6:7:8\n"
    fixed = fix_mdadm(text, names)
    assert not names.remaining(fixed)
    assert "1:2:3:4" not in fixed
    assert "ARRAY /dev/md1 UUID=5:6:7:8\n" in fixed
