# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds the disk that a person or the configuration names. Pure."""

import re
from collections.abc import Callable
from typing import Final

from core.errors import AmbiguousDisk, NoSuchDisk, NotAWholeDisk
from core.model.machine import Disk, Machine

_PARTITION_LINK: Final = r"-part\d+$"


def find_disk(machine: Machine, name: str) -> Disk:
    """The disk called `name`: a serial number, WWN, link under /dev/disk or `/dev/…` name.

    Raises NoSuchDisk, AmbiguousDisk, NotAWholeDisk.
    """
    name = name.strip()
    for is_name in (_is_path, _is_serial, _is_wwn, _is_id):
        found = [disk for disk in machine.disks if is_name(disk, name)]
        if len(found) > 1:
            raise AmbiguousDisk(name, [disk.path for disk in found])
        if found:
            return found[0]
    _refuse_partition(machine, name)
    raise NoSuchDisk(name)


def is_stable_name(machine: Machine, name: str) -> bool:
    """Whether `name` means the same disk after every start: a serial, a WWN, a by-id link."""
    name = name.strip()
    return any(
        _is_serial(disk, name)
        or _is_wwn(disk, name)
        or (_is_id(disk, name) and "/by-path/" not in name)
        for disk in machine.disks
    )


def find_recorded(machine: Machine, serial: str, wwn: str, guid: str) -> Disk | None:
    """The DPSR disk that the configuration records, or None when it is not there.

    Raises AmbiguousDisk when several disks fit.
    """
    found = fitting(machine, serial, wwn, guid)
    if len(found) > 1:
        raise AmbiguousDisk(serial or wwn or guid, [disk.path for disk in found])
    return found[0] if found else None


def fitting(machine: Machine, serial: str, wwn: str, guid: str) -> tuple[Disk, ...]:
    """The disks that a record fits: more than one are copies of each other, or paths to one disk.

    All three must fit as far as they are recorded; WWN and GUID only where the disk shows one,
    since udev may have been told to leave it alone.
    """
    tests: list[Callable[[Disk], bool]] = []
    if serial:
        tests.append(lambda disk: _is_serial(disk, serial))
    if wwn:
        tests.append(lambda disk: _is_wwn(disk, wwn) or (bool(serial) and not disk.wwn))
    if guid:
        tests.append(lambda disk: disk.guid in {"", guid.lower()})
    return tuple(disk for disk in machine.disks if tests and all(test(disk) for test in tests))


def _is_path(disk: Disk, name: str) -> bool:
    return name == disk.path or (name.startswith("/dev/") and name in disk.links)


def _is_serial(disk: Disk, name: str) -> bool:
    """Compares as udev writes serial numbers, with `_` for spaces."""
    wanted = "_".join(name.split())
    return bool(wanted) and any(
        "_".join(serial.split()) == wanted for serial in (disk.serial, *disk.serials)
    )


def _is_wwn(disk: Disk, name: str) -> bool:
    return bool(disk.wwn) and _plain_wwn(name) == _plain_wwn(disk.wwn)


def _is_id(disk: Disk, name: str) -> bool:
    """A by-id link, with or without its folder."""
    return any(
        name in {link, link.removeprefix("/dev/disk/"), link.rpartition("/")[2]}
        for link in disk.links
        if "/by-id/" in link
    )


def _plain_wwn(text: str) -> str:
    return re.sub(r"^(/dev/disk/by-id/)?(wwn-|nvme-)?(0x|naa\.|eui\.)?", "", text.lower())


def _refuse_partition(machine: Machine, name: str) -> None:
    for disk in machine.disks:
        links = [
            f"{link}{found[0]}"
            for link in disk.links
            if (found := re.search(_PARTITION_LINK, name))
        ]
        for part in disk.partitions:
            if name == part.path or name in part.links or name in {part.uuid, part.partuuid} - {""}:
                raise NotAWholeDisk(name, disk.path)
        if name in links:
            raise NotAWholeDisk(name, disk.path)
