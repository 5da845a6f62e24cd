# SPDX-License-Identifier: GPL-3.0-or-later
"""The part that is appended to an initrd: found again, replaced, never stacked."""

import stat
from pathlib import Path

import pytest
import zstandard

from builder.fixup import initrd
from builder.fixup.cpio import archive
from builder.fixup.modules import closure, parse_dependencies
from tests.support.renaming import DEBIAN12, NEW_SWAP

FILE = stat.S_IFREG | 0o644
OLD_SWAP = b"UUID=e4565381-dfc1-41e4-8622-77b6ba8f967b"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "initrd.img-6.1"
    files = (
        ("conf/conf.d/resume", FILE, b"RESUME=" + OLD_SWAP + b"\n"),
        ("conf/conf.d/zz-resume-auto", FILE, b"RESUME=/dev/sdz9\n"),
        ("cryptroot/crypttab", FILE, b"swap_crypt /dev/sda5 none\n"),
        ("etc/dpsr/hidden", FILE, b"guid DPSR0001 -\n"),
        ("etc/fstab", FILE, b""),
        ("etc/cmdline.d/x.conf", FILE, b"root=/dev/sda2\n"),
        ("usr/lib/modules/6.1/kernel/drivers/virtio/virtio-scsi.ko.xz", FILE, b"module"),
    )
    path.write_bytes(zstandard.ZstdCompressor().compress(archive(files)))
    return path


def _fix(path: Path) -> bool:
    found = initrd.look(path)
    files = initrd.overrides(found.texts, DEBIAN12)
    return initrd.set_part(path, found.length, initrd.part(found.length, files))


def test_what_the_kernel_unpacks_names_the_copy(image: Path) -> None:
    before = image.read_bytes()
    assert _fix(image)
    after = image.read_bytes()
    assert after.startswith(before)
    assert len(after) % 512 == 0
    texts = initrd.look(image, with_own_part=True).texts
    assert texts["conf/conf.d/resume"] == f"RESUME=UUID={NEW_SWAP}\n".encode()
    assert texts["conf/conf.d/zz-resume-auto"] == b"RESUME=none\n"
    assert texts["cryptroot/crypttab"] == b""
    assert texts["etc/dpsr/hidden"] == b"", "its own disk would be hidden from it"
    assert b"/dev/sda2" not in texts["etc/cmdline.d/x.conf"]


def test_a_second_time_nothing_changes(image: Path) -> None:
    assert initrd.own_part(image) is None
    length = image.stat().st_size
    _fix(image)
    assert initrd.own_part(image) == length
    first = image.read_bytes()
    assert not _fix(image)
    assert image.read_bytes() == first


def test_an_older_part_is_replaced(image: Path) -> None:
    length = image.stat().st_size
    initrd.set_part(image, length, initrd.part(length, {"etc/other": b"x" * 9000}))
    assert _fix(image)
    assert initrd.own_part(image) == length
    assert "etc/other" not in initrd.look(image, with_own_part=True).texts


def test_the_archive_begins_at_a_block_and_after_zeros() -> None:
    for length in (0, 1, 508, 509, 512, 1000):
        content = initrd.part(length, {"a": b"b"})
        at = content.index(b"070701")
        assert at >= 4
        assert (length + at) % 512 == 0
        assert (length + len(content)) % 512 == 0


def test_modules_by_the_names_that_the_kernel_gives_them(image: Path) -> None:
    found = initrd.look(image)
    assert found.folder == "usr/lib/modules/6.1"
    assert set(found.modules) == {"virtio_scsi"}


def test_a_module_comes_with_all_it_needs() -> None:
    known = parse_dependencies(
        "kernel/drivers/ata/ahci.ko.xz: kernel/drivers/ata/libahci.ko.xz kernel/x/scsi-mod.ko.xz\n"
        "kernel/x/scsi-mod.ko.xz:\n"
        "kernel/drivers/ata/libahci.ko.xz: kernel/x/scsi-mod.ko.xz\n"
    )
    assert closure(["ahci"], known) == {
        "ahci": "kernel/drivers/ata/ahci.ko.xz",
        "libahci": "kernel/drivers/ata/libahci.ko.xz",
        "scsi_mod": "kernel/x/scsi-mod.ko.xz",
    }
    assert closure(["unknown"], known) == {}
