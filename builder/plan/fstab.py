# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads /etc/fstab and finds the devices that it names. Pure."""

from dataclasses import dataclass
from typing import Final

from core.machine.escapes import from_hex, from_octal
from core.model.copy import Identity
from core.model.machine import Machine

_TAGS: Final = ("UUID", "LABEL", "PARTUUID", "PARTLABEL")
_OPTICAL: Final = frozenset({"iso9660", "udf"})


@dataclass(frozen=True, slots=True)
class Entry:
    """One line that names a block device; `mountpoint` is empty for swap."""

    spec: str
    mountpoint: str
    fstype: str
    options: tuple[str, ...]


def parse_fstab(text: str) -> tuple[Entry, ...]:
    """The entries of local file systems and swap, in their order.

    Network and pseudo file systems, bind mounts, image files and optical drives are left out.
    """
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) < 3 or words[0].startswith("#"):
            continue
        spec, mountpoint, fstype = from_octal(words[0]), from_octal(words[1]), words[2]
        options = tuple(words[3].split(",")) if len(words) > 3 else ("defaults",)
        tag, equals, _ = spec.partition("=")
        if not (spec.startswith("/dev/") or (equals and tag in _TAGS)):
            continue
        if _OPTICAL.intersection(fstype.split(",")) or {"bind", "rbind"}.intersection(options):
            continue
        place = "" if fstype == "swap" else normal(mountpoint)
        found.append(Entry(spec, place, fstype, options))
    return tuple(found)


def normal(mountpoint: str) -> str:
    """A mount point as the kernel writes it: `/boot/` is `/boot`."""
    return "/" + "/".join(part for part in mountpoint.split("/") if part)


def device_of(machine: Machine, spec: str) -> str:
    """The kernel's name of the device that `spec` (`UUID=…`, `/dev/…`) means; empty if absent."""
    for path in _paths(machine):
        known = identity_of(machine, path)
        if spec in known.paths or _matches(spec, known):
            return path
    return ""


def identity_of(machine: Machine, path: str) -> Identity:
    """By what the device `path` (a partition, a whole disk, a dm or md device) is found."""
    if part := machine.partition(path):
        return Identity(part.uuid, part.label, part.partuuid, part.name, (path, *part.links))
    for holder in machine.holders:
        if holder.path == path:
            return Identity(holder.uuid, holder.label, "", "", (path, *holder.links))
    for disk in machine.disks:
        if disk.path == path:
            return Identity(disk.uuid, disk.label, "", "", (path, *disk.links))
    return Identity("", "", "", "", (path,))


def identity_from_spec(spec: str) -> Identity:
    """What an entry says of a device that is not there."""
    if spec.startswith("/dev/"):
        return Identity("", "", "", "", (spec,))
    tag, value = _tag(spec)
    return Identity(
        uuid=value if tag == "UUID" else "",
        label=value if tag == "LABEL" else "",
        partuuid=value if tag == "PARTUUID" else "",
        partlabel=value if tag == "PARTLABEL" else "",
    )


def _paths(machine: Machine) -> list[str]:
    disks = [
        path for disk in machine.disks for path in (*(p.path for p in disk.partitions), disk.path)
    ]
    return [*(holder.path for holder in machine.holders), *disks]


def _matches(spec: str, known: Identity) -> bool:
    tag, value = _tag(spec)
    if not value:
        return False
    match tag:
        case "UUID":
            return value.lower() == known.uuid.lower()
        case "LABEL":
            return value == known.label
        case "PARTUUID":
            return value.lower() == known.partuuid.lower()
        case "PARTLABEL":
            return value == known.partlabel
    return False


def _tag(spec: str) -> tuple[str, str]:
    if spec.startswith("/dev/disk/by-"):
        tag, _, value = spec.removeprefix("/dev/disk/by-").partition("/")
        return tag.upper(), from_hex(value)
    tag, _, value = spec.partition("=")
    return tag, value.strip("\"'")
