# SPDX-License-Identifier: GPL-3.0-or-later
"""Gathers what sysfs, udev and, where udev was told to look away, blkid say of block devices.

Only facts are gathered here; `core.machine.judge` makes Disks and Holders of them.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from core.errors import ToolError
from core.machine.escapes import from_backslash

_ATTRIBUTES: Final = (
    "partition", "start", "size", "ro", "removable", "hidden", "serial", "wwid",
    "queue/logical_block_size", "device/serial", "device/wwid", "device/model", "device/name",
    "dm/name", "dm/uuid", "md/level", "md/metadata_version",
)  # fmt: skip
_SKIPPED: Final = ("loop", "ram", "zram", "sr", "fd")
"""No disks, and many: a machine with snaps has dozens of loop devices."""

_BLKID_KEYS: Final = {
    "TYPE": "ID_FS_TYPE", "UUID": "ID_FS_UUID", "LABEL": "ID_FS_LABEL",
    "PTTYPE": "ID_PART_TABLE_TYPE", "PTUUID": "ID_PART_TABLE_UUID",
    "PART_ENTRY_TYPE": "ID_PART_ENTRY_TYPE", "PART_ENTRY_UUID": "ID_PART_ENTRY_UUID",
    "PART_ENTRY_NAME": "ID_PART_ENTRY_NAME",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Device:
    """One block device, as the system describes it."""

    name: str
    """In sysfs, where `/` in a name is `!`."""
    node: str
    dev: tuple[int, int]
    folder: str
    """Its folder in /sys/devices: the way from the bus to the disk."""
    parent: str
    """`name` of the disk that it is a partition of, else empty."""
    said: Mapping[str, str]
    """Properties from udev's database or, failing that, from blkid under the same names."""
    attributes: Mapping[str, str]
    """Files of sysfs, relative to `folder`, stripped; only those that exist and are not empty."""
    links: tuple[str, ...] = ()
    slaves: tuple[str, ...] = ()
    """Names of the devices that it lies on."""
    drivers: tuple[tuple[str, str, bool], ...] = ()
    """From the disk towards the bus: subsystem, module (or driver, when it is built in), and
    whether it was loaded as a module."""
    usb_serial: str = ""


@dataclass(slots=True)
class _Seen:
    devices: list[Device] = field(default_factory=list)
    unprobed: list[str] = field(default_factory=list)


def gather() -> tuple[Device, ...]:
    """Every block device but loop, RAM and optical ones, sorted by name.

    Reads contents (by blkid) only of those that udev was told to leave alone, and only as root.
    """
    import pyudev

    seen = _Seen()
    for found in pyudev.Context().list_devices(subsystem="block"):
        if not found.sys_name.startswith(_SKIPPED) and found.device_node is not None:
            device = _device(found)
            if device.attributes.get("hidden") == "1":
                continue  # a path of an NVMe multipath head
            seen.devices.append(device)
            if _unprobed(device):
                seen.unprobed.append(device.node)
    told = _ask_blkid(seen.unprobed)
    whole = (
        replace(device, said={**device.said, **told[device.node]})
        if device.node in told
        else device
        for device in seen.devices
    )
    return tuple(sorted(whole, key=lambda device: device.name))


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


def _device(found: Any) -> Device:
    folder = found.sys_path
    attributes = {
        name: text for name in _ATTRIBUTES if (text := read_text(Path(folder, name)).strip())
    }
    if serial := _unit_serial(Path(folder, "device/vpd_pg80")):
        attributes["device/vpd_pg80"] = serial
    disk = found.device_type == "disk"
    parent = "" if disk else os.path.basename(os.path.dirname(folder))
    number = found.device_number
    return Device(
        name=found.sys_name,
        node=found.device_node,
        dev=(os.major(number), os.minor(number)),
        folder=folder,
        parent=parent,
        said=dict(found.properties),
        attributes=attributes,
        links=tuple(sorted(found.device_links)),
        slaves=_names_in(Path(folder, "slaves")),
        drivers=tuple(_drivers(_hardware(folder))) if disk else (),
        usb_serial=_usb_serial(folder) if disk and "/usb" in folder else "",
    )


def _unprobed(device: Device) -> bool:
    """Whether udev's database says nothing of what is on the device, not even "nothing"."""
    said = device.said
    if any(key.startswith(("ID_FS_", "ID_PART_")) for key in said):
        return False
    skipped = said.get("UDEV_DISABLE_PERSISTENT_STORAGE_RULES_FLAG") == "1"
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


def _hardware(folder: str) -> Path:
    """The folder of the device itself; for the head of an NVMe multipath, of its first path."""
    if "/virtual/nvme-subsystem/" in folder:
        for controller in sorted(Path(folder).parent.glob("nvme*")):
            if controller.is_symlink():
                return controller.resolve()
    return Path(folder)


def _drivers(folder: Path) -> Iterable[tuple[str, str, bool]]:
    for place in (folder, *folder.parents):
        if place.name == "devices":
            return
        driver = place / "driver"
        if driver.is_symlink():
            subsystem = os.path.basename(os.path.realpath(place / "subsystem"))
            module = driver / "module"
            named = os.path.basename(os.path.realpath(module if module.exists() else driver))
            name = named.replace("-", "_")
            yield subsystem, name, Path("/sys/module", name, "initstate").exists()


def _usb_serial(folder: str) -> str:
    for place in Path(folder).parents:
        if (place / "idVendor").exists():
            return read_text(place / "serial").strip()
    return ""


def _unit_serial(page: Path) -> str:
    """The serial number in a SCSI disk's vital product data, page 0x80."""
    try:
        data = page.read_bytes()
    except OSError:
        return ""
    return data[4:].decode("ascii", "replace").strip("\0 ")


def _names_in(folder: Path) -> tuple[str, ...]:
    try:
        return tuple(sorted(os.listdir(folder)))
    except OSError:
        return ()


def read_text(path: Path) -> str:
    """A small file of /proc or /sys; empty when it is not there or cannot be read."""
    try:
        return path.read_text("utf-8", "surrogateescape")
    except OSError:
        return ""
