# SPDX-License-Identifier: GPL-3.0-or-later
"""The list of disks: aligned for people, whole for programs."""

import json

from core.machine.roles import Role
from dpsr.tables import disk_as_json, disk_table
from tests.support.machines import blank

FOUND = [
    (blank("/dev/sda", model=""), Role("primary", "")),
    (blank("/dev/nvme0n1", model="Samsung SSD 970 EVO 1TB"), Role("dpsr", "")),
    (blank("/dev/sdc", serial=""), Role("in use", "mounted at /data")),
    (blank("/dev/sdd", serial="", wwn=""), Role("free", "empty")),
]


def test_columns_stand_below_their_heads() -> None:
    lines = disk_table(FOUND).splitlines()
    assert lines[0].split() == ["DISK", "MODEL", "SERIAL", "SIZE", "BUS", "ROLE"]
    at = lines[0].index("ROLE")
    assert [line[at:] for line in lines[1:]] == [
        "primary", "DPSR", "in use: mounted at /data", "free: empty",
    ]  # fmt: skip


def test_a_disk_without_serial_shows_its_wwn_or_that_it_has_none() -> None:
    lines = disk_table(FOUND).splitlines()
    assert "WWN 0x5000" in lines[3]
    assert "none" in lines[4]


def test_programs_get_numbers_and_every_name() -> None:
    document = json.loads(json.dumps(disk_as_json(*FOUND[1])))
    assert document["role"] == "dpsr"
    assert document["size_bytes"] == 40 << 30
    assert any("/by-id/" in link for link in document["links"])
