# SPDX-License-Identifier: GPL-3.0-or-later
"""What a sample system is made of: packages, partitions, fstab. Pure."""

import hashlib
import json
import uuid
from dataclasses import asdict, dataclass
from typing import Final, Literal

from images.vm import MIB, Bus, Firmware

Table = Literal["gpt", "mbr"]
Swap = Literal["partition", "file", "none"]
Modules = Literal["most", "dep"]
Kernel = Literal["cloud", "generic"]

SUITES: Final = {12: "bookworm", 13: "trixie"}

PRIMARY_SERIAL: Final = "PRIMARY1"
"""Serial number of a sample's disk: debconf's grub-pc device and /dev/disk/by-id name it."""

SWAP_FILE: Final = 64 * MIB

SYSTEM_PACKAGES: Final = (
    "dbus", "e2fsprogs", "efibootmgr", "grub-efi-amd64-bin", "grub-pc-bin", "grub2-common",
    "initramfs-tools", "iproute2", "kmod", "less", "login", "passwd", "procps",
    "qemu-guest-agent", "sqlite3", "systemd", "systemd-sysv", "ucf", "udev", "util-linux", "zstd",
)  # fmt: skip
"""What makes it a system that boots, is spoken to by an agent, and has a database to write in."""

DPSR_PACKAGES: Final = (
    "dmsetup", "dosfstools", "fdisk", "gdisk", "grub-common", "initramfs-tools-core",
    "kexec-tools", "lz4", "mount", "mtools", "parted", "partclone", "python3-jinja2",
    "python3-numpy", "python3-parted", "python3-pexpect", "python3-pyudev", "python3-rich",
    "python3-typer", "python3-xxhash", "python3-zstandard",
)  # fmt: skip
"""What the package dpsr depends on: here already, so that its installation needs no network."""

LOADER_PACKAGES: Final[dict[Firmware, str]] = {"uefi": "grub-efi-amd64", "bios": "grub-pc"}


@dataclass(frozen=True, slots=True)
class Recipe:
    """One sample system. `size` is that of its disk, in bytes."""

    release: int = 13
    firmware: Firmware = "uefi"
    table: Table = "gpt"
    boot_partition: bool = False
    swap: Swap = "partition"
    bus: Bus = "virtio"
    modules: Modules = "most"
    kernel: Kernel = "cloud"
    size: int = 3072 * MIB

    def __post_init__(self) -> None:
        if self.release not in SUITES:
            raise ValueError(f"no recipe for Debian {self.release}")
        if self.bus == "sata" and self.kernel == "cloud":
            raise ValueError("Debian's cloud kernel has no AHCI driver: take kernel=generic")

    @property
    def name(self) -> str:
        """What a person reads: `debian13-uefi-gpt-virtio`, with whatever is not the default."""
        parts = [f"debian{self.release}", self.firmware, self.table, self.bus]
        if self.boot_partition:
            parts.append("boot")
        if self.swap != "partition":
            parts.append(f"swap-{self.swap}")
        if self.modules != "most":
            parts.append(self.modules)
        if self.kernel != "cloud":
            parts.append(self.kernel)
        return "-".join(parts)


@dataclass(frozen=True, slots=True)
class Part:
    """One partition. `start` and `size` in bytes; `uuid` as the file system has it."""

    number: int
    what: Literal["bios", "esp", "boot", "root", "swap", "extended"]
    start: int
    size: int
    uuid: str = ""


_GPT_TYPES: Final = {
    "bios": "21686148-6449-6E6F-744E-656564454649",
    "esp": "C12A7328-F81F-11D2-BA4B-00A0C93EC93B",
    "boot": "0FC63DAF-8483-4772-8E79-3D69D8477DE4",
    "root": "0FC63DAF-8483-4772-8E79-3D69D8477DE4",
    "swap": "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F",
}
_MBR_TYPES: Final = {"esp": "ef", "boot": "83", "root": "83", "swap": "82", "extended": "5"}


def layout(recipe: Recipe) -> tuple[Part, ...]:
    """The partitions, as Debian's installer lays them out: with an MBR, swap is a logical one."""
    before: list[tuple[Literal["bios", "esp", "boot"], int]] = []
    if recipe.firmware == "uefi":
        before.append(("esp", 128 * MIB))
    elif recipe.table == "gpt":
        before.append(("bios", 1 * MIB))
    if recipe.boot_partition:
        before.append(("boot", 256 * MIB))
    swap = 128 * MIB if recipe.swap == "partition" else 0
    parts: list[Part] = []
    start = MIB
    for what, size in before:
        parts.append(Part(len(parts) + 1, what, start, size, _uuid(recipe, what)))
        start += size
    end = recipe.size - MIB - swap
    logical = swap and recipe.table == "mbr"
    if logical:
        end -= MIB
    parts.append(Part(len(parts) + 1, "root", start, end - start, _uuid(recipe, "root")))
    if logical:
        parts.append(Part(len(parts) + 1, "extended", end, swap + MIB))
        parts.append(Part(5, "swap", end + MIB, swap, _uuid(recipe, "swap")))
    elif swap:
        parts.append(Part(len(parts) + 1, "swap", end, swap, _uuid(recipe, "swap")))
    return tuple(parts)


def sfdisk_script(recipe: Recipe) -> str:
    """The table in sfdisk's own language."""
    types = _GPT_TYPES if recipe.table == "gpt" else _MBR_TYPES
    lines = [f"label: {'gpt' if recipe.table == 'gpt' else 'dos'}", "unit: sectors"]
    disk_id = _digest(recipe, "disk")
    lines.append(
        f"label-id: {uuid.UUID(disk_id[:32]) if recipe.table == 'gpt' else '0x' + disk_id[:8]}"
    )
    for part in layout(recipe):
        line = f"{part.number}: start={part.start // 512}, size={part.size // 512}"
        line += f", type={types[part.what]}"
        if recipe.table == "gpt":
            line += f", uuid={uuid.UUID(_digest(recipe, 'part', part.what)[:32])}"
        elif part.what == ("boot" if recipe.boot_partition else "root"):
            line += ", bootable"
        lines.append(line)
    return "\n".join(lines) + "\n"


def fstab(recipe: Recipe) -> str:
    """The table of file systems, in the words of Debian's installer."""
    lines = ["# <file system> <mount point> <type> <options> <dump> <pass>"]
    for part in layout(recipe):
        match part.what:
            case "root":
                lines.append(f"UUID={part.uuid} / ext4 errors=remount-ro 0 1")
            case "boot":
                lines.append(f"UUID={part.uuid} /boot ext4 defaults 0 2")
            case "esp":
                lines.append(f"UUID={part.uuid} /boot/efi vfat umask=0077 0 1")
            case "swap":
                lines.append(f"UUID={part.uuid} none swap sw 0 0")
            case _:
                pass
    if recipe.swap == "file":
        lines.append("/swapfile none swap sw 0 0")
    return "\n".join(lines) + "\n"


def packages(recipe: Recipe) -> tuple[str, ...]:
    """Everything in the base layer."""
    kernel = "linux-image-cloud-amd64" if recipe.kernel == "cloud" else "linux-image-amd64"
    return (kernel, *SYSTEM_PACKAGES, *DPSR_PACKAGES)


def key(*parts: object) -> str:
    """A name that changes with the content of `parts`: values that JSON knows, and dataclasses."""

    def plain(value: object) -> object:
        return asdict(value) if isinstance(value, Recipe) else str(value)

    text = json.dumps(parts, default=plain, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _digest(recipe: Recipe, *what: str) -> str:
    return hashlib.sha256(f"{key(recipe)} {what}".encode()).hexdigest()


def _uuid(recipe: Recipe, what: str) -> str:
    """Made from the recipe, so that two builds of one recipe are equal."""
    digest = _digest(recipe, "fs", what)
    if what == "esp":
        return f"{digest[:4]}-{digest[4:8]}".upper()
    return "" if what == "bios" else str(uuid.UUID(digest[:32], version=4))
