# SPDX-License-Identifier: GPL-3.0-or-later
"""The script that tells the udev rule which disk is hidden, on made-up trees of sysfs."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from shutil import which
from typing import Final

import pytest

from core import hidden
from core.run import PIPE, start
from core.settings import BackupSet

HELPER: Final = Path(__file__).parents[2] / "packaging/udev/dpsr-hidden"
GUID: Final = "d1a91a0e-51e7-4c69-9a52-d9f9f5f5c3a1"
OTHER: Final = "00000000-51e7-4c69-9a52-d9f9f5f5c3a1"
KNOWN: Final = BackupSet("system", "DPSR0001", "", GUID, "Disk", 1 << 30, 4096, "c", "u", "v")
SHELLS: Final = [name for name in ("dash", "bash", "busybox") if which(name)]


def page80(serial: str) -> bytes:
    return bytes((0, 0x80, 0, len(serial))) + serial.encode()


class Tree:
    """A sysfs with one disk, and what blkid says of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.programs = folder / "bin"
        self.programs.mkdir()
        self.says(GUID)

    def says(self, guid: str) -> None:
        self.program("blkid", f"echo {guid}")

    def program(self, name: str, text: str) -> None:
        path = self.programs / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >> {self.folder}/asked\n{text}\n')
        path.chmod(0o755)

    def disk(self, files: Mapping[str, bytes | str], way: str = "pci0000:00/host2/block") -> None:
        for name, content in files.items():
            path = self.folder / "sys/devices" / way / "sdb" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else f"{content}\n".encode())
        links = self.folder / "sys/block"
        links.mkdir()
        (links / "sdb").symlink_to(self.folder / "sys/devices" / way / "sdb")

    def ask(self, shell: str, *sets: BackupSet) -> bool:
        (self.folder / "hidden").write_text(hidden.listing(sets))
        words = [shell] if shell != "busybox" else ["busybox", "sh"]
        child = start(
            "env", f"PATH={self.programs}:/usr/bin:/bin", *words, str(HELPER), "sdb",
            str(self.folder / "sys"), str(self.folder / "hidden"), str(self.folder / "revealed"),
            stdout=PIPE, stderr=PIPE,
        )  # fmt: skip
        out, err = child.communicate(timeout=30)
        assert (out, err) == (b"", b""), (out, err)
        assert child.returncode in {0, 1}
        return child.returncode == 0

    @property
    def asked(self) -> str:
        path = self.folder / "asked"
        return path.read_text() if path.exists() else ""


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


SERIALS: Final = [
    ({"serial": "DPSR0001"}, "DPSR0001"),  # virtio
    ({"device/serial": "DPSR0001            "}, "DPSR0001"),  # NVMe, padded
    ({"device/vpd_pg80": page80("DPSR0001")}, "DPSR0001"),  # SCSI
    ({"device/vpd_pg80": page80("  WD-WX 12  ")}, "WD-WX 12"),
    ({"device/vpd_pg80": page80("TEN-LETTER")}, "TEN-LETTER"),  # its length is a line feed
    ({"device/vpd_pg80": page80("T" * 32)}, "T" * 32),  # a blank
    ({"device/vpd_pg80": page80("T" * 92)}, "T" * 92),  # a backslash
    ({"device/vpd_pg80": page80("DPSR0001\0\0")}, "DPSR0001"),
]


@pytest.mark.parametrize(("files", "serial"), SERIALS)
def test_by_the_serial_number_of_any_bus(
    tree: Tree, shell: str, files: dict[str, bytes | str], serial: str
) -> None:
    tree.disk(files)
    assert tree.ask(shell, replace(KNOWN, serial=serial))
    assert tree.ask(shell, replace(KNOWN, serial="ANOTHER"), replace(KNOWN, serial=serial))
    for other in (f"X{serial}", f"{serial}X", serial[1:], serial[:-1], "*", "?" * len(serial)):
        assert not tree.ask(shell, replace(KNOWN, serial=other)), other


def test_behind_a_usb_bridge(tree: Tree, shell: str) -> None:
    way = "pci0000:00/usb1/1-2/1-2:1.0/host3/block"
    tree.disk({"device/vpd_pg80": page80("INVENTED"), "size": "1"}, way)
    stick = tree.folder / "sys/devices/pci0000:00/usb1/1-2"
    (stick / "idVendor").write_text("0bda\n")
    (stick / "serial").write_text("DPSR0001\n")
    assert tree.ask(shell, KNOWN)
    assert not tree.ask(shell, replace(KNOWN, serial="0bda"))


def test_another_partition_table_is_another_disk(tree: Tree, shell: str) -> None:
    tree.disk({"serial": "DPSR0001"})
    assert tree.ask(shell, KNOWN)
    for guid in (OTHER, ""):
        tree.says(guid)
        assert not tree.ask(shell, KNOWN)
    assert "blkid -p -o value -s PTUUID /dev/sdb" in tree.asked


def test_a_disk_with_another_serial_number_is_not_read(tree: Tree, shell: str) -> None:
    tree.disk({"serial": "PRIMARY1"})
    assert not tree.ask(shell, KNOWN)
    assert tree.asked == ""


WWN: Final = "0x5000c500a1b2c3d4"


@pytest.mark.parametrize("name", ["wwid", "device/wwid"])
def test_by_its_wwn(tree: Tree, shell: str, name: str) -> None:
    tree.disk({name: f"naa.{WWN[2:]}"})
    assert tree.ask(shell, replace(KNOWN, serial="", wwn=WWN))
    assert not tree.ask(shell, replace(KNOWN, serial="", wwn="0x5000c500a1b2c3d5"))
    # A number that only udev finds out is no reason to leave it in sight.
    assert tree.ask(shell, replace(KNOWN, wwn=WWN))


def test_both_must_fit_where_both_are_shown(tree: Tree, shell: str) -> None:
    tree.disk({"device/vpd_pg80": page80("DPSR0001"), "device/wwid": f"naa.{WWN[2:]}"})
    assert tree.ask(shell, replace(KNOWN, wwn=WWN))
    assert not tree.ask(shell, replace(KNOWN, wwn="0x5000c500a1b2c3d5"))
    assert not tree.ask(shell, replace(KNOWN, serial="OTHER", wwn=WWN))


def test_a_wwn_made_of_model_and_serial_number_says_nothing(tree: Tree, shell: str) -> None:
    tree.disk({"device/vpd_pg80": page80("DPSR0001"), "device/wwid": "t10.ATA     QEMU DPSR0001"})
    assert tree.ask(shell, replace(KNOWN, wwn=WWN))
    assert not tree.ask(shell, replace(KNOWN, serial="OTHER"))


def test_an_nvme_disk_by_both(tree: Tree, shell: str) -> None:
    tree.disk({"device/serial": "DPSR0001", "wwid": "eui.0025385971b0a2c4"})
    assert tree.ask(shell, replace(KNOWN, wwn="eui.0025385971b0a2c4"))
    assert not tree.ask(shell, replace(KNOWN, wwn="eui.0025385971b0a2c5"))


def test_nothing_is_hidden_by_nothing(tree: Tree, shell: str) -> None:
    tree.disk({"size": "1"})
    assert not tree.ask(shell, replace(KNOWN, serial=""))
    assert not tree.ask(shell, KNOWN)
    assert not tree.ask(shell)


def test_while_it_is_revealed_it_is_made_read_only(tree: Tree, shell: str) -> None:
    tree.program("blockdev", ":")
    tree.disk({"serial": "DPSR0001"})
    (tree.folder / "revealed").write_text("1\n")
    assert not tree.ask(shell, KNOWN)
    assert "blockdev --setro /dev/sdb" in tree.asked
    (tree.folder / "asked").unlink()
    assert not tree.ask(shell, replace(KNOWN, serial="OTHER"))
    assert tree.asked == ""
