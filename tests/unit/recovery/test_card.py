# SPDX-License-Identifier: GPL-3.0-or-later
"""The recovery card: what it says, and that nothing a disk calls itself gets through as markup."""

import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest

from core.machine import dmi
from core.machine.dmi import Dmi
from core.model.machine import Disk
from recovery.bootkeys import boot_key
from recovery.card import CardFacts, DiskFacts, facts, place, render, shown
from tests.support import machines
from tests.support.two_sides import SET

HOSTILE = "<script>alert('x')</script>\"&\0"
PRIMARY = DiskFacts("SAMSUNG MZ7LH480", "S45PNA0M512345", "447.1 GiB", "SATA port 1")
COPY = DiskFacts("WDC WD10EZEX", "WD-WCC6Y4NX1234", "931.5 GiB", "SATA port 2")
CARD = CardFacts(
    "web01", "Dell Inc.", "PowerEdge R350", "7XK2QM3", "uefi", "F12", "DPSR recovery",
    PRIMARY, COPY, datetime(2025, 11, 22, tzinfo=UTC),
)  # fmt: skip


class Page(HTMLParser):
    """Tags and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(name for name, _ in attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_it_says_which_key_which_line_which_disks() -> None:
    text = Page(render(CARD)).text
    for word in (
        "If web01 does not start", "PowerEdge R350", "7XK2QM3", "Press F12", "DPSR recovery",
        PRIMARY.serial, COPY.serial, COPY.place, "dpsr failback", "dpsr switch primary",
    ):  # fmt: skip
        assert word in text, word


def test_hostile_names_stay_text() -> None:
    disk = DiskFacts(HOSTILE, HOSTILE, HOSTILE, HOSTILE)
    evil = CardFacts(
        HOSTILE, HOSTILE, HOSTILE, HOSTILE, "bios", "F12", HOSTILE, disk, disk, CARD.made
    )
    page = Page(render(evil))
    allowed = {tag for tag, _ in Page(render(CARD)).tags}
    assert {tag for tag, _ in page.tags} <= allowed
    assert not any(name.startswith("on") for _, names in page.tags for name in names)
    assert "<script>alert('x')</script>\"&?" in page.text


def test_nothing_is_fetched_from_anywhere() -> None:
    assert not re.search(r"https?:|src=|href=|@import|url\(", render(CARD))


def test_a_maker_that_nobody_knows_leaves_the_key_to_the_screen() -> None:
    text = Page(render(replace(CARD, key=""))).text
    assert "Open the boot menu" in text
    assert "Press F12" not in text


@pytest.mark.parametrize(
    ("about", "key"),
    [
        (Dmi("Dell Inc.", "PowerEdge R350"), "F12"),
        (Dmi("HPE", "ProLiant DL380 Gen10"), "F11"),
        (Dmi("HP", "ProLiant DL360 Gen9"), "F9"),
        (Dmi("Hewlett-Packard", "HP Z440"), "F9"),
        (Dmi("LENOVO", "ThinkSystem SR650"), "F12"),
        (Dmi("Supermicro", "SYS-5019"), "F11"),
        (Dmi("", "", "", "ASUSTeK COMPUTER INC."), "F8"),
        (Dmi("Micro-Star International Co., Ltd."), "F11"),
        (Dmi("QEMU", "Standard PC"), "Esc"),
        (Dmi("Intel Corporation"), "F10"),
        (Dmi("Chippewa Ltd", "msiX"), ""),
        (Dmi(), ""),
    ],
)
def test_the_key_goes_by_the_maker(about: Dmi, key: str) -> None:
    assert boot_key(about) == key


@pytest.mark.parametrize(
    ("link", "where"),
    [
        ("pci-0000:00:1f.2-ata-3", "SATA port 3"),
        ("pci-0000:00:1f.2-ata-3.0", "SATA port 3"),
        ("pci-0000:01:00.0-nvme-1", "NVMe, PCI 01:00.0"),
        ("pci-0000:00:14.0-usb-0:2.1:1.0-scsi-0:0:0:0", "USB port 2.1"),
        ("pci-0000:03:00.0-sas-phy4-lun-0", "SAS bay 4"),
        ("pci-0000:00:05.0-scsi-0:0:1:0", "SCSI target 1, LUN 0"),
        ("virtio-pci-0000:00:04.0", "virtual disk"),
    ],
)
def test_where_a_disk_is_plugged_in(link: str, where: str) -> None:
    disk = Disk(
        "/dev/sda", (8, 0), "S", "", "m", 1, 512, "virtio", "", False, False, "gpt", "g",
        ("/dev/disk/by-id/x", f"/dev/disk/by-path/{link}"), (),
    )  # fmt: skip
    assert place(disk) == where


def test_what_makers_leave_empty_is_not_printed(tmp_path: Path) -> None:
    for name, text in (
        ("sys_vendor", "Dell  Inc.\n"), ("product_name", "To be filled by O.E.M.\n"),
        ("product_serial", "Default string"), ("bios_vendor", "Dell Inc."),
    ):  # fmt: skip
        (tmp_path / name).write_text(text)
    assert dmi.read(tmp_path) == Dmi("Dell Inc.", "", "", "", "Dell Inc.")


def test_long_names_are_cut() -> None:
    assert len(shown("x" * 100)) == 60
    assert shown("a\nb\tc") == "a b c"


def test_facts_come_from_the_machine_and_the_record() -> None:
    machine = machines.machine(machines.primary(), firmware="uefi")
    found = facts(machine, SET, Dmi("Dell Inc.", "R350", "7X"), CARD.made)
    assert (found.dpsr.serial, found.key, found.entry) == ("S1", "F12", "DPSR recovery")
    assert found.primary.serial == machines.primary().serial
    by_bios = facts(replace(machine, firmware="bios"), SET, Dmi(), CARD.made)
    assert by_bios.entry == "model (S1)"
