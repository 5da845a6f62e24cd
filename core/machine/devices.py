# SPDX-License-Identifier: GPL-3.0-or-later
"""Gathers what the kernel says of block devices, from sysfs alone.

Only facts are gathered here and in `core.machine.udev`; `core.machine.judge` makes Disks and
Holders of them.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

_SYSFS: Final = "/sys/class/block"
_OF_DISKS: Final = (
    "size", "ro", "removable", "hidden", "serial", "wwid", "queue/logical_block_size",
    "device/serial", "device/wwid", "device/model", "device/name", "dm/name", "dm/uuid",
)  # fmt: skip
_OF_PARTITIONS: Final = ("partition", "start", "size", "ro")
_SKIPPED: Final = ("loop", "ram", "zram", "sr", "fd")
"""No disks, and many: a machine with snaps has dozens of loop devices."""


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
    """Properties: the kernel's own (`PARTNAME`), those of udev's database, and where that is
    silent, blkid's under udev's names."""
    attributes: Mapping[str, str]
    """Files of sysfs, relative to `folder`, stripped; only those that exist and are not empty."""
    links: tuple[str, ...] = ()
    slaves: tuple[str, ...] = ()
    """Names of the devices that it lies on."""
    drivers: tuple[tuple[str, str, bool], ...] = ()
    """From the disk towards the bus: subsystem, module (or driver, when it is built in), and
    whether it was loaded as a module."""
    usb_serial: str = ""


def boot_id() -> str:
    """The kernel's name for the boot that runs."""
    return read_text("/proc/sys/kernel/random/boot_id").strip()


def sysfs_name(path: str) -> str:
    """What sysfs calls the device at `path`: `sda`, `cciss!c0d0`. Pure."""
    return path.removeprefix("/dev/").replace("/", "!")


def gather() -> tuple[Device, ...]:
    """Every block device but loop, RAM and optical ones, sorted by name."""
    names = (name for name in _names_in(_SYSFS) if not name.startswith(_SKIPPED))
    found = (_device(name) for name in names)
    return tuple(device for device in found if device is not None)


def _device(name: str) -> Device | None:
    """None for a device without a node: a path of an NVMe multipath head, or one that just left."""
    folder = os.path.realpath(f"{_SYSFS}/{name}")
    lines = (line.partition("=") for line in read_text(f"{folder}/uevent").splitlines())
    said = {key: value for key, _, value in lines}
    is_disk = said.get("DEVTYPE") == "disk"
    wanted = _OF_DISKS if is_disk else _OF_PARTITIONS
    attributes = {name: text for name in wanted if (text := read_text(f"{folder}/{name}").strip())}
    if "DEVNAME" not in said or attributes.get("hidden") == "1":
        return None
    if is_disk and (serial := _unit_serial(f"{folder}/device/vpd_pg80")):
        attributes["device/vpd_pg80"] = serial
    return Device(
        name=name,
        node=f"/dev/{said['DEVNAME']}",
        dev=(int(said["MAJOR"]), int(said["MINOR"])),
        folder=folder,
        parent="" if is_disk else os.path.basename(os.path.dirname(folder)),
        said=said,
        attributes=attributes,
        slaves=_names_in(f"{folder}/slaves") if is_disk else (),
        drivers=tuple(_drivers(_hardware(folder))) if is_disk else (),
        usb_serial=_usb_serial(folder) if is_disk and "/usb" in folder else "",
    )


def _hardware(folder: str) -> str:
    """The folder of the device itself; for the head of an NVMe multipath, of its first path."""
    if "/virtual/nvme-subsystem/" in folder:
        parent = os.path.dirname(folder)
        for name in _names_in(parent):
            if name.startswith("nvme") and os.path.islink(f"{parent}/{name}"):
                return os.path.realpath(f"{parent}/{name}")
    return folder


def _upwards(folder: str) -> Iterable[str]:
    while os.path.basename(folder) not in {"devices", ""}:
        yield folder
        folder = os.path.dirname(folder)


def _drivers(folder: str) -> Iterable[tuple[str, str, bool]]:
    for place in _upwards(folder):
        driver = f"{place}/driver"
        if os.path.islink(driver):
            module = f"{driver}/module"
            real = os.path.realpath(module if os.path.exists(module) else driver)
            name = os.path.basename(real).replace("-", "_")
            subsystem = os.path.basename(os.path.realpath(f"{place}/subsystem"))
            yield subsystem, name, os.path.exists(f"/sys/module/{name}/initstate")


def _usb_serial(folder: str) -> str:
    for place in _upwards(folder):
        if os.path.exists(f"{place}/idVendor"):
            return read_text(f"{place}/serial").strip()
    return ""


def _unit_serial(page: str) -> str:
    """The serial number in a SCSI disk's vital product data, page 0x80."""
    try:
        with open(page, "rb") as stream:
            return stream.read()[4:].decode("ascii", "replace").strip("\0 ")
    except OSError:
        return ""


def _names_in(folder: str) -> tuple[str, ...]:
    try:
        return tuple(sorted(os.listdir(folder)))
    except OSError:
        return ()


def read_text(path: str) -> str:
    """A small file of /proc or /sys; empty when it is not there or cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as stream:
            return stream.read()
    except OSError:
        return ""
