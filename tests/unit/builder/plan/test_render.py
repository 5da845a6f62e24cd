# SPDX-License-Identifier: GPL-3.0-or-later
"""A plan can be read in 80 columns, and says what is going to be lost."""

import json
from dataclasses import replace
from random import Random

from builder.plan.identity import Fresh
from builder.plan.layout import make_plan
from builder.plan.render import render, to_json
from builder.plan.wish import Wish
from core.model.copy import Plan
from core.model.machine import Disk, Swap
from tests.support.machines import GIB, MIB, blank, disk, fstab, machine, mount, part, primary

WINDOWS = disk(
    "/dev/nvme0n1", 40 * GIB,
    part("/dev/nvme0n1p1", 1, MIB, 10 * GIB, "ntfs", label="Windows"),
    model="Samsung SSD 970 EVO 1TB", serial="S466NX0K123456",
)  # fmt: skip
DATA = disk("/dev/sdc", 9 * GIB, part("/dev/sdc1", 1, MIB, 8 * GIB, "ext4"))


def planned(target: Disk = WINDOWS) -> Plan:
    system = machine(primary(), target, DATA)
    system = replace(
        system,
        mounts=(*system.mounts, mount(DATA.partitions[0], "/data")),
        swaps=(*system.swaps, Swap("/swapfile", "file", GIB, "", "")),
    )
    return make_plan(system, target, Wish(), fstab(system), Fresh(Random(1).randbytes))


def test_now_and_then_stand_side_by_side() -> None:
    lines = render(planned()).splitlines()
    at = lines.index(f"{'Now: all of it is going to be lost':41}Then")
    assert (
        lines[at + 1]
        == f"{' 1 Windows              10.0 GiB ntfs':41} 1 dpsr-bios             1.0 MiB"
    )
    assert lines[at + 3].strip() == "3 dpsr-slot-root        8.0 GiB ext4"


def test_everything_that_matters_is_said() -> None:
    text = render(planned())
    for fact in (
        "/dev/nvme0n1  40.0 GiB  Samsung SSD 970 EVO 1TB", "serial S466NX0K123456",
        "2.0 GiB of 8.0 GiB, to partition 3", "swap on /dev/sda4: a new, empty one",
        "/swapfile: a new, empty swap file", "Not copied\n  /dev/sdc1", "--volume /data",
    ):  # fmt: skip
        assert fact in text


def test_lines_fit_a_terminal() -> None:
    assert max(map(len, render(planned()).splitlines())) <= 80


def test_a_blank_disk_loses_nothing_and_a_bare_file_system_is_named() -> None:
    assert "no partitions" in render(planned(blank()))
    bare = planned(blank(fstype="ext4", label="photos"))
    assert "holds a file system without partitions: ext4 (photos)" in render(bare)


def test_programs_get_the_same_in_bytes() -> None:
    document = json.loads(json.dumps(to_json(planned())))
    assert document["disk"]["serial"] == "S466NX0K123456"
    assert document["before"][0]["label"] == "Windows"
    assert [row["name"] for row in document["after"]][:3] == [
        "dpsr-bios", "dpsr-control", "dpsr-slot-root",
    ]  # fmt: skip
    assert document["volumes"][0]["size_bytes"] == 8 * GIB
    assert document["swap"] == [{"source": "/dev/sda4", "slot": "dpsr-slot-swap"}]
    assert document["swap_files"] == ["/swapfile"]
    assert document["left_out"] == ["/dev/sdc1"]
    assert len(document["warnings"]) == 1
