# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks at the machine that the tests run on."""

import os

from core.machine.counters import read_counters
from core.machine.look import glance, look
from core.run import run


def test_what_is_mounted_is_what_findmnt_says() -> None:
    machine = look()
    for mount in machine.mounts:
        said = run("findmnt", "-rno", "TARGET", "--source", mount.source, ok=(0, 1)).split()
        assert not said or mount.mountpoint in [word.replace(r"\x20", " ") for word in said]
        number = os.stat(mount.source).st_rdev
        if mount.fstype != "btrfs":
            assert mount.dev == (os.major(number), os.minor(number))


def test_sizes_are_those_of_the_devices() -> None:
    for disk in look().disks:
        said = run("lsblk", "--bytes", "--nodeps", "-no", "SIZE,LOG-SEC", disk.path).split()
        assert [disk.size, disk.sector] == [int(word) for word in said]


def test_a_glance_sees_the_same_disks() -> None:
    seen, glanced = look(), glance()
    assert [disk.path for disk in seen.disks] == [disk.path for disk in glanced.disks]
    for disk, other in zip(seen.disks, glanced.disks, strict=True):
        assert not other.serial or other.serial == disk.serial
        assert [part.path for part in disk.partitions] == [part.path for part in other.partitions]


def test_the_counters_of_the_root_only_grow() -> None:
    root = look().mount_at("/")
    if root is None:
        return  # a container without a device of its own
    first, second = (read_counters({"/": root.dev}) for _ in range(2))
    assert first.boot == second.boot
    assert dict(first.written)["/"] <= dict(second.written)["/"]
