# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole tree of files that boot the copy."""

import stat
import struct
from pathlib import Path

import pytest

from builder.fixup import efi, marker, modules
from builder.fixup.cpio import archive
from builder.fixup.tree import COPY_DEFAULTS, ESP_PROGRAMS, MARKER, fix_tree, remaining
from core.errors import OldIdentityRemains, UnknownFormat
from tests.support.data import DATA
from tests.support.renaming import DEBIAN12, NEW_ROOT

OLD_ROOT = "ac4cd121-9281-45d9-98fa-6b628670e306"


def _pe(content: bytes, signature: int = 0) -> bytes:
    head = bytearray(512)
    head[:2] = b"MZ"
    struct.pack_into("<I", head, 0x3C, 0x40)
    head[0x40:0x44] = b"PE\0\0"
    struct.pack_into("<H", head, 0x40 + 24, 0x20B)
    struct.pack_into("<II", head, 0x40 + 24 + 112 + 8 * 4, 4096 if signature else 0, signature)
    return bytes(head) + content


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    files = {
        "etc/fstab": (DATA / "fstab/debian12").read_bytes(),
        "boot/grub/grub.cfg": (DATA / "grubcfg/debian12-bios-boot.cfg").read_bytes(),
        "boot/grub/device.map": b"(hd0) /dev/disk/by-id/x\n",
        "boot/grub/x86_64-efi/core.efi": _pe(f"search.fs_uuid {OLD_ROOT} root".encode()),
        "boot/efi/EFI/debian/grubx64.efi": _pe(f"search.fs_uuid {OLD_ROOT} root".encode()),
        "boot/efi/EFI/debian/grub.cfg": f"search.fs_uuid {OLD_ROOT} root hd0,gpt2 \n".encode(),
        "boot/initrd.img-6.1": archive(
            [("etc/fstab", stat.S_IFREG | 0o644, f"UUID={OLD_ROOT} /\n".encode())]
        ),
        "etc/default/grub": b'GRUB_CMDLINE_LINUX="root=/dev/sda2"\n',
        "etc/default/grub.d/zz-dpsr-switch.cfg": b"GRUB_DEFAULT=dpsr\n",
        "etc/grub.d/42_dpsr": b"#!/bin/sh\n",
        "etc/dpsr/hidden": b"guid DPSR0001 -\n",
        "etc/initramfs-tools/conf.d/resume": b"RESUME=/dev/sda5\n",
        "var/cache/debconf/config.dat": (DATA / "debconf/debian12.dat").read_bytes(),
        "var/lib/dpkg/info/grub-pc.list": b"",
    }
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (root / "etc/grub.d/42_dpsr").chmod(0o755)
    return root


def test_nothing_names_the_primary_and_a_second_time_nothing_changes(
    root: Path, tmp_path: Path
) -> None:
    said = marker.dump("guid", DEBIAN12.pairs)
    assert len(remaining(root, DEBIAN12, ESP_PROGRAMS)) > 10
    done = fix_tree(root, DEBIAN12, (), tmp_path, said, ESP_PROGRAMS)
    assert remaining(root, DEBIAN12, ESP_PROGRAMS) == []
    assert {
        "/etc/fstab", "/boot/grub/grub.cfg", "/boot/grub/device.map", "/boot/initrd.img-6.1",
        "/boot/efi/EFI/debian/grubx64.efi", "/etc/grub.d/42_dpsr", "/etc/dpsr/hidden", f"/{MARKER}",
        f"/{COPY_DEFAULTS}", "/var/cache/debconf/config.dat",
    } <= set(done.files)  # fmt: skip
    assert not (root / "etc/dpsr/hidden").exists()
    assert not (root / "boot/grub/device.map").exists()
    assert not (root / "etc/default/grub.d/zz-dpsr-switch.cfg").exists()
    assert not (root / "etc/grub.d/42_dpsr").stat().st_mode & 0o111
    assert NEW_ROOT.encode() in (root / "boot/efi/EFI/debian/grubx64.efi").read_bytes()
    assert fix_tree(root, DEBIAN12, (), tmp_path, said, ESP_PROGRAMS).files == ()


def test_programs_on_the_esp_of_a_slot_stay_those_of_the_primary(
    root: Path, tmp_path: Path
) -> None:
    loader = root / "boot/efi/EFI/debian/grubx64.efi"
    before = loader.read_bytes()
    done = fix_tree(root, DEBIAN12, (), tmp_path)
    assert loader.read_bytes() == before
    assert "/boot/efi/EFI/debian/grub.cfg" in done.files
    assert "/boot/grub/x86_64-efi/core.efi" in done.files


def test_an_old_name_that_cannot_be_replaced_is_an_error(root: Path, tmp_path: Path) -> None:
    kernel = root / "boot/efi/EFI/Linux/debian.efi"
    kernel.parent.mkdir()
    kernel.write_bytes(_pe(f"root=UUID={OLD_ROOT}".encode(), signature=1000))
    with pytest.raises(OldIdentityRemains, match=r"debian\.efi"):
        fix_tree(root, DEBIAN12, (), tmp_path, b"", ESP_PROGRAMS)


def test_only_unsigned_programs_are_changed(tmp_path: Path) -> None:
    path = tmp_path / "x.efi"
    text = f"a {OLD_ROOT} b {OLD_ROOT}".encode()
    for content in (_pe(text, 8), text, b""):
        path.write_bytes(content)
        assert not efi.rename(path, DEBIAN12)
        assert path.read_bytes() == content
    path.write_bytes(_pe(text + OLD_ROOT.encode("utf-16-le")))
    assert efi.old_name(path, DEBIAN12) == OLD_ROOT
    assert efi.rename(path, DEBIAN12)
    assert efi.old_name(path, DEBIAN12) is None


@pytest.mark.parametrize(
    ("general", "local", "wanted"),
    [
        ("MODULES=most", "", False),
        ("MODULES=dep", "", True),
        ("MODULES=most", 'MODULES="dep"', True),
        ("MODULES=dep", "MODULES=most", False),
        ("# MODULES=dep", "", False),
    ],
)
def test_initrds_made_on_the_copy_know_the_drivers_where_they_would_not(
    tmp_path: Path, general: str, local: str, wanted: bool
) -> None:
    folder = tmp_path / "etc/initramfs-tools"
    (folder / "hooks").mkdir(parents=True)
    (folder / "conf.d").mkdir()
    (folder / "initramfs.conf").write_text(f"{general}\n")
    (folder / "conf.d/driver-policy").write_text(f"{local}\n")
    assert modules.fix_hook(tmp_path, ("mpt3sas", "sd_mod")) == wanted
    assert not modules.fix_hook(tmp_path, ("mpt3sas", "sd_mod")), "a second time nothing changes"
    hook = tmp_path / modules.HOOK
    assert hook.exists() == wanted
    if wanted:
        assert hook.stat().st_mode & 0o777 == 0o755
        assert " mpt3sas " in hook.read_text()
        assert hook.read_text().count("sd_mod") == 1


def test_the_marker_reads_back() -> None:
    read = marker.load(marker.dump("guid", DEBIAN12.pairs))
    assert read.disk == "guid"
    assert [pair.new for pair in read.pairs] == [pair.new for pair in DEBIAN12.pairs]
    assert all(pair.old.paths == () for pair in read.pairs)
    for content in (b"", b"[]", b'{"version": 2}', b'{"version": 1}'):
        with pytest.raises(UnknownFormat):
            marker.load(content)
