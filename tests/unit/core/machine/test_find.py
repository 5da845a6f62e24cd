# SPDX-License-Identifier: GPL-3.0-or-later
"""A disk is found by what is printed on it, and never by half of it."""

from dataclasses import replace

import pytest

from core.errors import AmbiguousDisk, NoSuchDisk, NotAWholeDisk
from core.machine.find import find_disk, find_recorded, is_stable_name
from core.model.machine import Disk, Machine
from tests.support.machines import GIB, MIB, blank, disk, machine, part, primary

TARGET = disk(
    "/dev/sdb", 40 * GIB,
    part("/dev/sdb1", 1, MIB, GIB, "ext4", uuid="11111111-2222-4333-8444-555555555555",
         links=("/dev/disk/by-label/data",)),
    serial="S3Z1 NB0K", serials=("0QEMU_S3Z1_NB0K",), wwn="0x5002538e40a1b2c3", guid="aaaa",
    links=(
        "/dev/disk/by-id/ata-Samsung_SSD_S3Z1_NB0K",
        "/dev/disk/by-id/wwn-0x5002538e40a1b2c3",
        "/dev/disk/by-path/pci-0000:00:17.0-ata-2",
    ),
)  # fmt: skip

STABLE = [
    "S3Z1 NB0K",
    "S3Z1_NB0K",
    " S3Z1 NB0K\n",
    "0QEMU_S3Z1_NB0K",
    "0x5002538e40a1b2c3",
    "0X5002538E40A1B2C3",
    "5002538e40a1b2c3",
    "naa.5002538e40a1b2c3",
    "wwn-0x5002538e40a1b2c3",
    "/dev/disk/by-id/ata-Samsung_SSD_S3Z1_NB0K",
    "by-id/ata-Samsung_SSD_S3Z1_NB0K",
    "ata-Samsung_SSD_S3Z1_NB0K",
]
MOVING = ["/dev/sdb", "/dev/disk/by-path/pci-0000:00:17.0-ata-2"]


def system(*others: Disk) -> Machine:
    return machine(primary(), TARGET, *others)


@pytest.mark.parametrize("name", [*STABLE, *MOVING])
def test_every_name_finds_it(name: str) -> None:
    assert find_disk(system(blank("/dev/sdc")), name) == TARGET
    assert is_stable_name(system(), name) is (name in STABLE)


@pytest.mark.parametrize("name", ["", " ", "S3Z1", "sdb", "/dev/sd", "/dev/sdz", "0x", "wwn-"])
def test_half_a_name_finds_nothing(name: str) -> None:
    no_numbers = blank("/dev/sdc", serial="", wwn="")
    with pytest.raises(NoSuchDisk):
        find_disk(system(no_numbers), name)
    assert not is_stable_name(system(no_numbers), name)


@pytest.mark.parametrize(
    "name",
    [
        "/dev/sdb1",
        "/dev/disk/by-label/data",
        "/dev/disk/by-id/ata-Samsung_SSD_S3Z1_NB0K-part1",
        "11111111-2222-4333-8444-555555555555",
    ],
)
def test_a_partition_is_refused_with_the_name_of_its_disk(name: str) -> None:
    with pytest.raises(NotAWholeDisk, match=r"is a partition of /dev/sdb\."):
        find_disk(system(), name)


def test_two_disks_with_one_serial_are_told_apart_by_other_names_only() -> None:
    twin = replace(TARGET, path="/dev/sdc", wwn="0x5002538e40ffffff", links=())
    with pytest.raises(AmbiguousDisk, match="/dev/sdb, /dev/sdc") as caught:
        find_disk(system(twin), "S3Z1 NB0K")
    assert "WWN" in caught.value.hint
    assert find_disk(system(twin), "0x5002538e40ffffff") == twin
    assert find_disk(system(twin), "/dev/sdc") == twin


def test_the_recorded_disk_is_found_by_all_that_is_recorded() -> None:
    found = find_recorded(system(), "S3Z1 NB0K", "0x5002538e40a1b2c3", "AAAA")
    assert found == TARGET
    assert find_recorded(system(), "S3Z1 NB0K", "", "aaaa") == TARGET
    assert find_recorded(system(), "S3Z1 NB0K", "0x5000000000000000", "aaaa") is None
    assert find_recorded(system(), "S3Z1 NB0K", "", "bbbb") is None
    assert find_recorded(system(), "", "", "") is None


def test_a_recorded_disk_whose_table_cannot_be_seen_is_found_all_the_same() -> None:
    unseen = replace(TARGET, guid="", wwn="")
    found = find_recorded(machine(primary(), unseen), "S3Z1 NB0K", "0x5002538e40a1b2c3", "aaaa")
    assert found == unseen
    assert find_recorded(machine(primary(), unseen), "", "0x5002538e40a1b2c3", "aaaa") is None


def test_two_disks_that_both_fit_are_never_guessed() -> None:
    with pytest.raises(AmbiguousDisk):
        find_recorded(system(replace(TARGET, path="/dev/sdc")), "S3Z1 NB0K", "", "aaaa")
