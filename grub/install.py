# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts GRUB on a disk for both firmwares, by GRUB's own installer, and proves what is there.

Neither NVRAM nor any other disk is touched.
"""

import os
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from core.errors import CommandFailed, LoaderFailed, ProgramMissing, ProgramTimeout
from core.files import write_durably
from core.run import need, run
from grub import envblock, gpt, sectors

LIBRARY: Final = Path("/usr/lib/grub")
"""Where Debian's packages put GRUB's images and modules."""
REMOVABLE: Final = "EFI/BOOT/BOOTX64.EFI"
"""The loader that any UEFI firmware finds with no NVRAM entry."""

_PACKAGES: Final = {"i386-pc": "grub-pc-bin", "x86_64-efi": "grub-efi-amd64-bin"}
_TIMEOUT: Final = 600.0
"""Seconds; grub-install takes two, and a slow USB disk a hundred times that."""
_GRUB_AT: Final = 0x180
"""Where boot.img says "GRUB "."""
_X86_64: Final = 0x8664


def need_grub() -> None:
    """Raise ProgramMissing unless GRUB for both firmwares can be installed from this machine."""
    need("grub-install")
    for platform, package in _PACKAGES.items():
        if not (LIBRARY / platform / "modinfo.sh").is_file():
            raise ProgramMissing(f"grub-install for {platform}", package)


def install_loader(disk: str, control: Path, files: Mapping[str, bytes]) -> None:
    """Make the DPSR disk bootable by BIOS and by UEFI; again does no harm.

    `control` is where its control partition is mounted, `files` are those of `menu.render`.
    Raises LoaderFailed.
    """
    start = _own_partition(disk, control)
    run_installer(
        "--target=i386-pc", f"--boot-directory={control}", "--no-floppy",
        "--modules=part_gpt fat", disk,
    )  # fmt: skip
    run_installer(
        "--target=x86_64-efi", f"--efi-directory={control}", f"--boot-directory={control}",
        "--removable", "--no-nvram", "--no-uefi-secure-boot",
    )  # fmt: skip
    try:
        write_menu(control, files)
        sync(control)
        check_uefi(control, fat_uuid(disk, start))
        check_bios(disk, control / "grub")
    except OSError as error:
        raise LoaderFailed(
            f"The boot loader on {disk} could not be finished: {error.strerror}."
        ) from None


def write_menu(control: Path, files: Mapping[str, bytes]) -> None:
    """Write the menu, each file whole or not at all, and an empty `grubenv` beside each script.

    The copy's own menu saves its default there, since $prefix stays on the control partition;
    without the file it would stop with an error, and an old one would name another copy's entry.
    """
    folders = {(control / name).parent for name in files}
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        write_durably(control / name, content)
    for name in files:
        if name.endswith("/grub.cfg"):
            write_durably((control / name).with_name("grubenv"), envblock.EMPTY)


def check_uefi(esp: Path, uuid: str) -> None:
    """Whether UEFI firmware finds a loader there that searches for no file system but `uuid`.

    Raises LoaderFailed.
    """
    path = esp / REMOVABLE
    image = path.read_bytes() if path.is_file() else b""
    check_image(image, str(path))
    for found in re.findall(rb"search\.fs_uuid +([0-9A-Fa-f-]+)", image):
        if found.decode().lower() != uuid.lower():
            raise LoaderFailed(
                f"{path} looks for the file system {found.decode()} instead of {uuid}."
            )


def check_image(image: bytes, what: str) -> None:
    """Whether `image`, called `what`, is a UEFI program for this kind of machine.

    Raises LoaderFailed.
    """
    header = struct.unpack_from("<I", image, 0x3C)[0] if len(image) > 0x40 else 0
    if not image.startswith(b"MZ") or image[header : header + 6] != b"PE\0\0" + struct.pack(
        "<H", _X86_64
    ):
        raise LoaderFailed(f"{what} is no UEFI loader for this kind of machine.")


def check_bios(disk: str, grub: Path) -> None:
    """Whether the boot sector of `disk` leads to the core image that lies in `grub`, its folder.

    The core image is in the BIOS boot partition, or behind an MBR. Raises LoaderFailed.
    """
    core = (grub / "i386-pc" / "core.img").read_bytes()
    if not has_boot_sector(disk):
        raise LoaderFailed(f"The boot sector of {disk} is not GRUB's.")
    boot = sectors.read(disk, 0, sectors.SECTOR)
    at = struct.unpack_from("<Q", boot, 0x5C)[0] * sectors.SECTOR  # GRUB's unit on any disk
    if gpt.has_table(disk) and at != gpt.start_of(disk, gpt.BIOS_BOOT):
        raise LoaderFailed(f"The boot sector of {disk} does not lead to its BIOS boot partition.")
    if _without_patches(sectors.read(disk, at, len(core))) != _without_patches(core):
        raise LoaderFailed(f"GRUB's core image is not where the boot sector of {disk} leads.")


def has_boot_sector(disk: str) -> bool:
    """Whether the first sector of `disk` is GRUB's."""
    boot = sectors.read(disk, 0, sectors.SECTOR)
    return boot[_GRUB_AT : _GRUB_AT + 5] == b"GRUB " and boot[510:] == b"\x55\xaa"


def _without_patches(core: bytes) -> bytes:
    """A core image without the fields that depend on where it lies (GRUB 2.06 and 2.12).

    At the end of the first sector: where the rest is; in the second: how long the error
    correction behind it is, and the boot device.
    """
    return core[:0x1F4] + core[0x200:0x20C] + core[0x218:]


def fat_uuid(disk: str, start: int) -> str:
    """The UUID of the FAT32 file system that begins at byte `start`, as blkid writes it."""
    serial = struct.unpack("<I", sectors.read(disk, start + 0x43, 4))[0]
    return f"{serial >> 16:04X}-{serial & 0xFFFF:04X}"


def _own_partition(disk: str, control: Path) -> int:
    """Byte at which the mounted file system begins on `disk`; it must lie there."""
    found, start = sectors.whole_disk(os.stat(control).st_dev)
    if found != os.path.realpath(disk):
        raise LoaderFailed(f"{control} lies on {found}, not on {disk}. Nothing was written.")
    return start


def run_installer(*arguments: str) -> None:
    """Run grub-install. Raises LoaderFailed."""
    try:
        run("grub-install", *arguments, timeout=_TIMEOUT)
    except (CommandFailed, ProgramTimeout) as error:
        raise LoaderFailed(f"GRUB could not be installed: {error}") from None


def sync(folder: Path) -> None:
    """Write out all of the file system that `folder` lies on: grub-install syncs nothing."""
    run("sync", "--file-system", str(folder), timeout=_TIMEOUT)
