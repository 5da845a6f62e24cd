# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes Disks and Holders of what `devices` gathered. Pure."""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from core.machine.devices import Device
from core.machine.escapes import from_hex
from core.model.machine import Bus, Disk, Holder, Partition, Table

_SECTOR: Final = 512
"""Unit of sysfs for sizes and offsets, whatever the disk's own sector size."""

_SERIALS_UDEV: Final = ("ID_SCSI_SERIAL", "SCSI_IDENT_SERIAL", "ID_SERIAL_SHORT", "ID_SERIAL")
_SERIALS_SYSFS: Final = ("serial", "device/serial", "device/vpd_pg80")


def disks_from(devices: Iterable[Device]) -> tuple[Disk, ...]:
    """The whole disks with their partitions: what has hardware behind it and lies on nothing."""
    devices = tuple(devices)
    return tuple(
        _disk(device, [part for part in devices if part.parent == device.name])
        for device in devices
        if not device.parent and _is_disk(device)
    )


def holders_from(devices: Iterable[Device]) -> tuple[Holder, ...]:
    """What lies on other block devices: dm, md, bcache, and partitions of these."""
    known = {device.name: device for device in devices}
    return tuple(
        Holder(
            path=device.node,
            dev=device.dev,
            kind=_kind(device),
            on=_below(device, known),
            size=int(device.attributes.get("size", "0")) * _SECTOR,
            fstype=device.said.get("ID_FS_TYPE", ""),
            uuid=device.said.get("ID_FS_UUID", ""),
            label=_label(device.said),
            links=device.links,
        )
        for device in known.values()
        if device.slaves or (device.parent and known[device.parent].slaves)
    )


def bus_of(name: str, folder: str) -> Bus:
    """By which bus a disk is attached, from its name and its folder in /sys/devices."""
    if name.startswith("nvme"):
        return "nvme"
    if "/usb" in folder:
        return "usb"
    if re.search(r"/ata\d+/", folder):
        return "sata"
    if re.search(r"/host\d+/", folder):
        return "scsi"
    if re.search(r"/virtio\d+/", folder):
        return "virtio"
    return "other"


def wwn_of(said: Mapping[str, str], attributes: Mapping[str, str]) -> str:
    """The world wide name as udev writes it: `0x5000c500a1b2c3d4`, `eui.0025…`; empty if none."""
    for wwid in (attributes.get("wwid", ""), attributes.get("device/wwid", "")):
        if wwid.startswith("naa."):
            return f"0x{wwid[4:].lower()}"
        if wwid.startswith(("eui.", "nvme.", "uuid.")):
            return wwid
    return said.get("ID_WWN_WITH_EXTENSION") or said.get("ID_WWN", "")


def serials_of(device: Device) -> tuple[str, ...]:
    """Every serial number of a disk, the one on its label first.

    That of sysfs comes first: it is there as well when udev was told to leave the disk alone.
    A USB bridge's own number goes before the one that it invents for the disk behind it.
    """
    found = (
        device.usb_serial,
        *(device.attributes.get(key, "") for key in _SERIALS_SYSFS),
        *(device.said.get(key, "") for key in _SERIALS_UDEV),
    )
    return tuple(dict.fromkeys(word for word in map(str.strip, found) if word.strip("0 ")))


def _is_disk(device: Device) -> bool:
    has_size = int(device.attributes.get("size", "0")) > 0
    boot_area = re.fullmatch(r"mmcblk\d+(boot\d+|rpmb|gp\d+)", device.name)
    return bool(device.drivers) and not device.slaves and has_size and not boot_area


def _disk(device: Device, parts: Iterable[Device]) -> Disk:
    said, attributes = device.said, device.attributes
    serials = serials_of(device)
    partitions = tuple(sorted((_partition(part) for part in parts), key=lambda part: part.number))
    return Disk(
        path=device.node,
        dev=device.dev,
        serial=serials[0] if serials else "",
        wwn=wwn_of(said, attributes),
        model=_model(said, attributes),
        size=int(attributes.get("size", "0")) * _SECTOR,
        sector=int(attributes.get("queue/logical_block_size", "512")),
        bus=bus_of(device.name, device.folder),
        driver=_controller(device),
        read_only=attributes.get("ro") == "1",
        removable=attributes.get("removable") == "1",
        table=_table(said),
        guid=said.get("ID_PART_TABLE_UUID", "").lower(),
        links=tuple(
            link
            for link in device.links
            if link.startswith(("/dev/disk/by-id/", "/dev/disk/by-path/"))
        ),
        partitions=partitions,
        fstype="" if partitions else said.get("ID_FS_TYPE", ""),
        uuid="" if partitions else said.get("ID_FS_UUID", ""),
        label="" if partitions else _label(said),
        serials=serials[1:],
        drivers=tuple(dict.fromkeys(name for _, name, loaded in device.drivers if loaded)),
        ignored=said.get("UDEV_DISABLE_PERSISTENT_STORAGE_RULES_FLAG") == "1",
    )


def _partition(device: Device) -> Partition:
    said, attributes = device.said, device.attributes
    return Partition(
        number=int(attributes.get("partition", "0")),
        path=device.node,
        dev=device.dev,
        start=int(attributes.get("start", "0")) * _SECTOR,
        size=int(attributes.get("size", "0")) * _SECTOR,
        kind=said.get("ID_PART_ENTRY_TYPE", "").lower(),
        name=from_hex(said.get("ID_PART_ENTRY_NAME", "")) or said.get("PARTNAME", ""),
        partuuid=said.get("ID_PART_ENTRY_UUID", "").lower(),
        fstype=said.get("ID_FS_TYPE", ""),
        uuid=said.get("ID_FS_UUID", ""),
        label=_label(said),
        links=device.links,
    )


def _label(said: Mapping[str, str]) -> str:
    return from_hex(said.get("ID_FS_LABEL_ENC") or said.get("ID_FS_LABEL", ""))


def _model(said: Mapping[str, str], attributes: Mapping[str, str]) -> str:
    named = from_hex(said.get("ID_MODEL_ENC", "")) or attributes.get("device/model", "")
    return " ".join((named or attributes.get("device/name", "")).split())


def _table(said: Mapping[str, str]) -> Table:
    kind = said.get("ID_PART_TABLE_TYPE", "")
    return "gpt" if kind == "gpt" else "dos" if kind == "dos" else ""


def _controller(device: Device) -> str:
    """The module of the first driver that is not of the SCSI layer itself."""
    for subsystem, name, _loaded in device.drivers:
        if subsystem not in {"scsi", "block"}:
            return name
    return ""


def _kind(device: Device) -> str:
    name = device.attributes.get("dm/name", "")
    uuid = device.attributes.get("dm/uuid", "")
    if uuid.startswith("LVM-"):
        return f"LVM volume {name}"
    if uuid.startswith("CRYPT-"):
        return f"encrypted device {name}"
    if "mpath-" in uuid:
        return f"multipath device {name}"
    if name:
        return f"device mapper {name}"
    if device.name.startswith("md"):
        return f"md array {device.name}"
    return f"block device {device.name}"


def _below(device: Device, known: Mapping[str, Device]) -> tuple[str, ...]:
    """Paths of the disks and partitions under a holder, all the way down, each once."""
    found: dict[str, None] = {}
    waiting = [*device.slaves, *filter(None, [device.parent])]
    seen: set[str] = set()
    while waiting:
        name = waiting.pop(0)
        if name in seen or name not in known:
            continue
        seen.add(name)
        below = known[name]
        if below.slaves:
            waiting.extend(below.slaves)
        elif below.parent and known[below.parent].slaves:
            waiting.append(below.parent)
        else:
            found[below.node] = None
    return tuple(found)
