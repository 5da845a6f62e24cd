# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes one look at this machine. Everything else decides on the value that it returns."""

import os
from typing import Final

from core.machine.devices import Device, gather, read_text
from core.machine.judge import disks_from, holders_from
from core.machine.mounts import Entry, on_devices, parse_mountinfo, parse_swaps
from core.model.machine import Disk, Holder, Machine, Mount, Swap

_EFI: Final = "/sys/firmware/efi"
_SECURE_BOOT: Final = f"{_EFI}/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"


def look() -> Machine:
    """This machine as it is now. Writes nothing; takes some hundredths of a second.

    Without root, disks that udev was told to leave alone show no file systems.
    """
    from core.machine.udev import with_properties

    return _machine(with_properties(gather()))


def glance() -> Machine:
    """The same in half the time, from the kernel alone: no links, UUIDs, labels, GUIDs of tables.

    Serial numbers, WWNs and the names of partitions are there, but for disks whose serial number
    only udev finds out.
    """
    return _machine(gather())


def _machine(devices: tuple[Device, ...]) -> Machine:
    disks, holders = disks_from(devices), holders_from(devices)
    uname = os.uname()
    return Machine(
        hostname=uname.nodename,
        firmware="uefi" if os.path.exists(_EFI) else "bios",
        secure_boot=_secure_boot(),
        kernel=uname.release,
        memory=_memory(read_text("/proc/meminfo")),
        disks=disks,
        mounts=_mounts({device.dev: device.node for device in devices}),
        swaps=_swaps(disks, holders),
        holders=holders,
    )


def _mounts(nodes: dict[tuple[int, int], str]) -> tuple[Mount, ...]:
    entries = parse_mountinfo(read_text("/proc/self/mountinfo"))
    sources = {entry.source for entry in entries if entry.source.startswith("/dev/")}
    known = set(nodes.values())
    real = {source: path for source in sources if (path := os.path.realpath(source)) in known}
    return tuple(_mount(node, entry) for node, entry in on_devices(entries, nodes, real))


def _mount(node: str, entry: Entry) -> Mount:
    used = block = 0
    try:
        # Something else may be mounted over it; then its figures stay unknown.
        if os.stat(entry.mountpoint).st_dev == os.makedev(*entry.dev):
            figures = os.statvfs(entry.mountpoint)
            block = figures.f_frsize
            used = (figures.f_blocks - figures.f_bfree) * block
    except OSError:
        pass  # a file system that answers with errors is found out when it is read
    return Mount(
        node, entry.dev, entry.mountpoint, entry.fstype, entry.options, used, block, entry.root
    )


def _swaps(disks: tuple[Disk, ...], holders: tuple[Holder, ...]) -> tuple[Swap, ...]:
    by_path = {part.path: part for disk in disks for part in disk.partitions} | {
        holder.path: holder for holder in holders
    }
    found = []
    for entry in parse_swaps(read_text("/proc/swaps")):
        path = os.path.realpath(entry.path) if entry.kind == "partition" else entry.path
        if path.startswith("/dev/zram"):
            continue  # memory, compressed: nothing of it is on a disk
        device = by_path.get(path)
        uuid, label = (device.uuid, device.label) if device else ("", "")
        found.append(Swap(path, entry.kind, entry.size, uuid, label))
    return tuple(found)


def _secure_boot() -> bool:
    try:
        with open(_SECURE_BOOT, "rb") as stream:
            return stream.read()[-1:] == b"\1"
    except OSError:
        return False


def _memory(meminfo: str) -> int:
    """Bytes of memory, from /proc/meminfo."""
    for line in meminfo.splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return 0
