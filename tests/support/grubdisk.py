# SPDX-License-Identifier: GPL-3.0-or-later
"""A DPSR disk in an image file with real GRUB for both firmwares, made without mounting anything.

For what GRUB does before any kernel runs. The slot is a file system with the folders given; the
tests of `prepare` cover what grub-install makes of a real machine.
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final
from uuid import UUID, uuid4
from zlib import crc32

from core.run import run as run_soon

MIB: Final = 1 << 20
run: Final = partial(run_soon, timeout=600)
"""Disks of a busy host can take minutes to sync."""
BIOS: Final = (1 * MIB, 1 * MIB)
CONTROL: Final = (2 * MIB, 64 * MIB)
SLOT: Final = (66 * MIB, 32 * MIB)
_PARTITIONS: Final = (
    ("21686148-6449-6e6f-744e-656564454649", "dpsr-bios", BIOS),
    ("c12a7328-f81f-11d2-ba4b-00a0c93ec93b", "dpsr-control", CONTROL),
    ("0fc63daf-8483-4772-8e79-3d69d8477de4", "dpsr-slot-root", SLOT),
)
SIZE: Final = 100 * MIB
_FOR_BIOS: Final = ("biosdisk", "part_gpt", "fat")
_FOR_UEFI: Final = ("part_gpt", "fat")


@dataclass(frozen=True, slots=True)
class GrubDisk:
    """What a disk shall hold."""

    menu: Mapping[str, bytes]
    """The menu's files by their path on the control partition."""
    state: bytes
    slot: Mapping[str, str]
    """Text files of the slot by their path."""
    slot_uuid: str
    lib: Path = Path("/usr/lib/grub")


def make(path: Path, wanted: GrubDisk) -> None:
    """Make the image `path`."""
    work = path.with_suffix(".parts")
    work.mkdir()
    with open(path, "wb") as stream:
        stream.truncate(SIZE)
    control = _control(work, wanted)
    slot = _slot(work, wanted)
    core = work / "core.img"
    _image(wanted.lib / "i386-pc", "i386-pc", core, "(,gpt2)/grub", _FOR_BIOS)
    boot = bytearray((wanted.lib / "i386-pc" / "boot.img").read_bytes())
    first = bytearray(core.read_bytes())
    sector = BIOS[0] // 512
    struct.pack_into("<Q", boot, 0x5C, sector)  # where the core image begins
    boot[0x66:0x68] = b"\x90\x90"  # boot from whatever disk the firmware says
    struct.pack_into("<Q", first, 0x1F4, sector + 1)  # where its second sector is
    with open(path, "r+b") as disk:
        # One protective entry: the whole disk, of type 0xEE.
        boot[0x1B8:0x1FE] = bytes(6) + struct.pack(
            "<8BII", 0, 0, 2, 0, 0xEE, 255, 255, 255, 1, SIZE // 512 - 1
        ) + bytes(48)  # fmt: skip
        for offset, content in (
            (0, bytes(boot)),
            *_table(),
            (BIOS[0], bytes(first)),
            (CONTROL[0], control.read_bytes()),
            (SLOT[0], slot.read_bytes()),
        ):
            disk.seek(offset)
            disk.write(content)


def read_control(path: Path, name: str) -> bytes:
    """A file of the control partition of a raw image."""
    out = path.with_suffix(".out")
    out.unlink(missing_ok=True)
    run("mcopy", "-i", f"{path}@@{CONTROL[0]}", f"::{name}", str(out))
    return out.read_bytes()


def _table() -> Iterator[tuple[int, bytes]]:
    """A GPT and its backup. (sfdisk would sync every disk of the host.)"""
    last = SIZE // 512 - 1
    entries = b"".join(
        UUID(kind).bytes_le
        + uuid4().bytes_le
        + struct.pack("<QQQ", start // 512, (start + size) // 512 - 1, 0)
        + name.encode("utf-16-le").ljust(72, b"\0")
        for kind, name, (start, size) in _PARTITIONS
    ).ljust(128 * 128, b"\0")
    guid = uuid4().bytes_le
    for here, other, first in ((1, last, 2), (last, 1, last - 32)):
        header = struct.pack(
            "<8s4sIIIQQQQ16sQIII", b"EFI PART", b"\0\0\1\0", 92, 0, 0, here, other, 34, last - 33,
            guid, first, 128, 128, crc32(entries),
        )  # fmt: skip
        yield here * 512, header[:16] + struct.pack("<I", crc32(header)) + header[20:]
        yield first * 512, entries


def _control(work: Path, wanted: GrubDisk) -> Path:
    fat = work / "control.fat"
    with open(fat, "wb") as stream:
        stream.truncate(CONTROL[1])
    run("mkfs.fat", "-F", "32", "-n", "DPSR-CONTRL", str(fat))
    tree = work / "control"
    for folder in ("EFI/BOOT", "EFI/debian", "grub/i386-pc", "grub/x86_64-efi", "dpsr"):
        (tree / folder).mkdir(parents=True)
    loader = tree / "EFI/BOOT/BOOTX64.EFI"
    _image(wanted.lib / "x86_64-efi", "x86_64-efi", loader, "/grub", _FOR_UEFI)
    for name, content in wanted.menu.items():
        (tree / name).parent.mkdir(exist_ok=True)
        (tree / name).write_bytes(content)
    run("grub-editenv", str(tree / "grub/grubenv"), "create")
    (tree / "dpsr/state").write_bytes(wanted.state)
    for platform in ("i386-pc", "x86_64-efi"):
        for module in (wanted.lib / platform).iterdir():
            if module.suffix in {".mod", ".lst"}:
                (tree / "grub" / platform / module.name).write_bytes(module.read_bytes())
    font = wanted.lib.parents[1] / "share/grub/unicode.pf2"
    (tree / "grub/fonts").mkdir()
    (tree / "grub/fonts/unicode.pf2").write_bytes(font.read_bytes())
    run("mcopy", "-s", "-i", str(fat), *map(str, sorted(tree.iterdir())), "::")
    return fat


def _slot(work: Path, wanted: GrubDisk) -> Path:
    tree = work / "slot"
    tree.mkdir()
    for name, text in wanted.slot.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    image = work / "slot.ext4"
    with open(image, "wb") as stream:
        stream.truncate(SLOT[1])
    run("mkfs.ext4", "-q", "-U", wanted.slot_uuid, "-d", str(tree), str(image))
    return image


def _image(folder: Path, platform: str, out: Path, prefix: str, modules: tuple[str, ...]) -> None:
    run(
        "grub-mkimage", "-d", str(folder), "-O", platform, "-o", str(out), "-p", prefix, *modules,
    )  # fmt: skip
