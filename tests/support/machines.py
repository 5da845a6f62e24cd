# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines that never were: values as `look` returns them, for tests of decisions."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from typing import Any, Final

from core.model.machine import Disk, Holder, Machine, Mount, Partition, Swap

MIB: Final = 1 << 20
GIB: Final = 1 << 30

_IDS = count(1)


def a_uuid() -> str:
    """Another one each time."""
    return f"{next(_IDS):08x}-aaaa-4aaa-8aaa-aaaaaaaaaaaa"


def part(path: str, number: int, start: int, size: int, fstype: str = "", **more: Any) -> Partition:
    """One partition; `more` overrides any field."""
    made = Partition(
        number=number, path=path, dev=(8, number), start=start, size=size,
        kind="0fc63daf-8483-4772-8e79-3d69d8477de4", name="", partuuid=a_uuid(), fstype=fstype,
        uuid=a_uuid() if fstype else "", label="",
        links=(),
    )  # fmt: skip
    return replace(made, **more)


def disk(path: str, size: int, *partitions: Partition, **more: Any) -> Disk:
    """One disk; its serial number is made from its path."""
    name = path.removeprefix("/dev/")
    made = Disk(
        path=path, dev=(8, 0), serial=f"SER-{name}", wwn=f"0x5000{ord(name[-1]):012x}",
        model="QEMU HARDDISK", size=size, sector=512, bus="scsi", driver="virtio_scsi",
        read_only=False, removable=False, table="gpt" if partitions else "",
        guid=a_uuid() if partitions else "",
        links=(
            f"/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_SER-{name}",
            f"/dev/disk/by-path/pci-0000:00:03.0-{name}",
        ),
        partitions=tuple(partitions), drivers=("sd_mod", "virtio_scsi"),
    )  # fmt: skip
    return replace(made, **more)


def mount(
    source: Partition | Disk | Holder, mountpoint: str, fstype: str = "", **more: Any
) -> Mount:
    """`source` mounted, a quarter of it in use."""
    made = Mount(
        source.path, source.dev, mountpoint, fstype or source.fstype, ("rw", "relatime"),
        used=source.size // 4, block=4096,
    )  # fmt: skip
    return replace(made, **more)


def primary(size: int = 20 * GIB) -> Disk:
    """/dev/sda with ESP, root, /home and swap, as Debian's installer lays it out."""
    home = size - 2 * MIB - (512 * MIB) - 8 * GIB - GIB
    at = MIB + 512 * MIB
    return disk(
        "/dev/sda", size,
        part("/dev/sda1", 1, MIB, 512 * MIB, "vfat", uuid="1A2B-3C4D", name="EFI System",
             kind="c12a7328-f81f-11d2-ba4b-00a0c93ec93b"),
        part("/dev/sda2", 2, at, 8 * GIB, "ext4", links=("/dev/disk/by-partuuid/root",)),
        part("/dev/sda3", 3, at + 8 * GIB, home, "ext4"),
        part("/dev/sda4", 4, at + 8 * GIB + home, GIB, "swap",
             kind="0657fd6d-a4ab-43c4-84e5-0933c84b4f4f"),
    )  # fmt: skip


def blank(path: str = "/dev/sdb", size: int = 40 * GIB, **more: Any) -> Disk:
    """A new disk."""
    return disk(path, size, **more)


def machine(*disks: Disk, mounts: Sequence[Mount] = (), **more: Any) -> Machine:
    """A machine; without `mounts`, its first disk is `primary()`, mounted as installed."""
    first = disks[0]
    if not mounts:
        esp, root, home, swap = first.partitions
        mounts = (mount(root, "/"), mount(esp, "/boot/efi"), mount(home, "/home"))
        more.setdefault("swaps", (Swap(swap.path, "partition", swap.size, swap.uuid, ""),))
    made = Machine(
        hostname="server", firmware="uefi", secure_boot=False, kernel="6.12.0-1-amd64",
        memory=2 * GIB, disks=tuple(disks), mounts=tuple(mounts), swaps=(), holders=(),
    )  # fmt: skip
    return replace(made, **more)


def fstab(machine: Machine) -> str:
    """The fstab that goes with `machine`: all mounts and swap, by UUID."""
    lines = ["# <file system> <mount point> <type> <options> <dump> <pass>"]
    for mounted in machine.mounts:
        found = machine.partition(mounted.source)
        spec = f"UUID={found.uuid}" if found else mounted.source
        lines.append(f"{spec} {mounted.mountpoint} {mounted.fstype} defaults 0 1")
    for swap in machine.swaps:
        spec = f"UUID={swap.uuid}" if swap.uuid else swap.path
        lines += [f"{spec} none swap sw 0 0"]
    return "\n".join(lines) + "\n"
