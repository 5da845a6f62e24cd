# SPDX-License-Identifier: GPL-3.0-or-later
"""Adds what udev's database says of block devices, and blkid where udev was told to look away."""

import os
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from core.errors import ToolError
from core.machine.devices import Device, read_text
from core.machine.escapes import from_backslash

_BLKID_KEYS: Final = {
    "TYPE": "ID_FS_TYPE", "UUID": "ID_FS_UUID", "LABEL": "ID_FS_LABEL",
    "PTTYPE": "ID_PART_TABLE_TYPE", "PTUUID": "ID_PART_TABLE_UUID",
    "PART_ENTRY_TYPE": "ID_PART_ENTRY_TYPE", "PART_ENTRY_UUID": "ID_PART_ENTRY_UUID",
    "PART_ENTRY_NAME": "ID_PART_ENTRY_NAME",
}  # fmt: skip
_IGNORED: Final = "UDEV_DISABLE_PERSISTENT_STORAGE_RULES_FLAG"


def with_properties(devices: Iterable[Device]) -> tuple[Device, ...]:
    """The devices with udev's properties and links.

    Contents are read (by blkid) only of those that udev was told to leave alone, or has not seen,
    and only as root.
    """
    import pyudev

    context = pyudev.Context()
    known = []
    for device in devices:
        try:
            found = pyudev.Devices.from_sys_path(context, device.folder)
        except pyudev.DeviceNotFoundError:
            continue  # it was pulled out meanwhile
        links = tuple(sorted(found.device_links))
        known.append(replace(device, said={**device.said, **found.properties}, links=links))
    told = _ask_blkid([device.node for device in known if _unprobed(device)])
    return tuple(
        replace(device, said={**device.said, **told.get(device.node, {})}) for device in known
    )


def is_ignored(dev: tuple[int, int]) -> bool:
    """Whether udev was told to leave the device alone.

    Read from the file of its database: loading pyudev takes longer than all of `dpsr status`.
    """
    major, minor = dev
    return f"E:{_IGNORED}=1" in read_text(f"/run/udev/data/b{major}:{minor}").splitlines()


def parse_blkid(text: str) -> dict[str, dict[str, str]]:
    """Read `blkid -p -o export DEVICE…`: for each device, its properties under udev's names."""
    found: dict[str, dict[str, str]] = {}
    for block in text.split("\n\n"):
        lines = (line.partition("=") for line in block.splitlines())
        values = {key: from_backslash(value) for key, _, value in lines}
        if node := values.get("DEVNAME"):
            found[node] = {
                _BLKID_KEYS[key]: value for key, value in values.items() if key in _BLKID_KEYS
            }
    return found


def _unprobed(device: Device) -> bool:
    """Whether udev's database says nothing of what is on the device, not even "nothing"."""
    said = device.said
    if any(key.startswith(("ID_FS_", "ID_PART_")) for key in said):
        return False
    skipped = said.get(_IGNORED) == "1"
    return skipped or "USEC_INITIALIZED" not in said


def _ask_blkid(nodes: list[str]) -> dict[str, dict[str, str]]:
    if not nodes or os.geteuid() != 0:
        return {}
    from core.run import run

    try:
        # 2: nothing found, 8: ambivalent; a device that went away meanwhile is simply not listed
        return parse_blkid(run("blkid", "-p", "-o", "export", *nodes, ok=(0, 2, 4, 8)))
    except ToolError:
        return {}  # what is on the devices stays unknown, which is what the guards then see
