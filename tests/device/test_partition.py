# SPDX-License-Identifier: GPL-3.0-or-later
"""Partitions real block devices (loop devices), and looks at the result with other programs."""

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from builder.partition import make_file_systems, partition
from builder.plan.identity import Fresh
from builder.plan.layout import make_plan
from builder.plan.table import read_back, rows
from builder.plan.wish import Wish
from core.claim import exclusively
from core.errors import DiskInUse
from core.model.copy import Plan
from core.model.machine import Partition
from core.run import run
from tests.support.machines import GIB, MIB, blank, disk, fstab, machine, mount, part

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="loop devices need root")


@pytest.fixture(params=[512, 4096])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A loop device of 2 GiB, with sectors of 512 or 4096 bytes."""
    image = tmp_path / "disk.img"
    with image.open("wb") as stream:
        stream.truncate(2 * GIB)
    size = str(request.param)
    loop = run("losetup", "--find", "--show", "--sector-size", size, str(image)).strip()
    try:
        yield loop
    finally:
        run("partx", "--delete", loop, ok=(0, 1))
        run("losetup", "--detach", loop)


def plan_for(loop: str, before: tuple[Partition, ...] = (), seed: int = 1) -> Plan:
    """A primary of 700 MiB in use: root, ESP, swap."""
    parts = (
        part("/dev/sda1", 1, MIB, 64 * MIB, "vfat", uuid="1A2B-3C4D"),
        part("/dev/sda2", 2, 65 * MIB, 600 * MIB, "ext4"),
        part("/dev/sda3", 3, 665 * MIB, 128 * MIB, "swap"),
    )
    sector = int(run("blockdev", "--getss", loop))
    goal = blank(loop, 2 * GIB, sector=sector, partitions=before)
    first = disk("/dev/sda", 10 * GIB, *parts)
    mounts = (mount(parts[1], "/"), mount(parts[0], "/boot/efi"))
    system = machine(first, goal, mounts=mounts)
    text = fstab(system) + f"UUID={parts[2].uuid} none swap sw 0 0\n"
    return make_plan(system, goal, Wish(), text, Fresh(Random(seed).randbytes))


def tag(path: str, name: str) -> str:
    return run("blkid", "-p", "-o", "value", "-s", name, path, ok=(0, 2)).strip()


def test_the_table_is_written_and_the_kernel_shows_it(target: str) -> None:
    plan = plan_for(target)
    partition(plan)
    for row in rows(plan):
        path = plan.slot_path(row.number)
        assert tag(path, "PART_ENTRY_UUID") == row.partuuid
        assert tag(path, "PART_ENTRY_NAME") == row.name
        assert tag(path, "PART_ENTRY_TYPE") == row.kind
        assert int(run("blockdev", "--getsize64", path)) == row.size
        assert (tag(path, "PART_ENTRY_FLAGS") == "0x8000000000000000") is row.hidden
    assert tag(target, "PTUUID") == plan.disk_guid


def test_file_systems_have_the_identities_of_the_plan(target: str) -> None:
    plan = plan_for(target)
    partition(plan)
    make_file_systems(plan)
    swap = plan.slots[-1]
    for number, fstype, identity in (
        (plan.control.number, "vfat", plan.control.identity),
        (plan.vault.number, "ext4", plan.vault.identity),
        (swap.number, "swap", swap.identity),
    ):
        path = plan.slot_path(number)
        assert tag(path, "TYPE") == fstype
        assert tag(path, "UUID") == identity.uuid
        assert tag(path, "LABEL") == identity.label
    assert tag(plan.slot_path(plan.control.number), "VERSION") == "FAT32"
    assert run("e2fsck", "-fn", plan.slot_path(plan.vault.number), timeout=120)
    # A slot carries nothing before its copy is complete.
    assert tag(plan.slot_path(plan.slots[0].number), "TYPE") == ""


def test_nothing_old_remains(target: str) -> None:
    """A file system where a slot is going to begin, with the identity of the primary's root."""
    run("sfdisk", "--quiet", target, given=b"label: dos\n2MiB,600MiB\n,,82\n")
    run("partx", "--update", target)
    run("mkfs.ext4", "-q", "-F", f"{target}p1")
    run("mkswap", f"{target}p2")
    old = tuple(
        Partition(number, f"{target}p{number}", (7, number), 0, MIB, "", "", "", "ext4", "x", "")
        for number in (1, 2)
    )
    plan = plan_for(target, old)
    partition(plan)
    for row in rows(plan):
        assert tag(plan.slot_path(row.number), "TYPE") == "", row.name
    assert tag(target, "PTTYPE") == "gpt"


def test_a_second_time_replaces_the_first(target: str) -> None:
    first, second = plan_for(target, seed=1), plan_for(target, seed=2)
    partition(first)
    make_file_systems(first)
    partition(replace(second, before=()))
    make_file_systems(second)
    sector = second.sector
    guid, found = read_back(json.loads(run("sfdisk", "--json", target)), sector)
    assert (guid, found) == (second.disk_guid, rows(second))


def test_a_disk_in_use_is_not_touched(target: str) -> None:
    plan = plan_for(target)
    with Path(target).open("rb") as stream:
        before = stream.read(MIB)
    with exclusively(target), pytest.raises(DiskInUse):
        partition(plan)
    with Path(target).open("rb") as stream:
        assert stream.read(MIB) == before
