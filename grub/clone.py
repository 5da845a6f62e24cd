# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts GRUB anew on a clone that another tool made: on that disk's own partitions, for itself."""

import struct
from pathlib import Path
from typing import Final

from core.errors import LoaderFailed
from core.model.machine import Firmware
from core.run import run
from grub import sectors
from grub.install import check_uefi, run_installer

_ESPS: Final = ("boot/efi", "efi", "boot")


def install_on_clone(disk: str, root: Path, firmware: Firmware) -> None:
    """Make the clone on `disk`, mounted at `root` with its /boot and ESP, start from itself.

    `firmware` is that of the primary: a clone has what its original has. UEFI gets the loader
    that needs no NVRAM entry, which is not touched. Raises LoaderFailed.
    """
    boot = root / "boot"
    if firmware == "uefi":
        esp = next((root / name for name in _ESPS if (root / name / "EFI").is_dir()), None)
        if esp is None:
            raise LoaderFailed(f"The clone on {disk} has no EFI system partition.")
        run_installer(
            "--target=x86_64-efi", f"--efi-directory={esp}", f"--boot-directory={boot}",
            "--removable", "--no-nvram", "--no-uefi-secure-boot",
        )  # fmt: skip
        check_uefi(esp, run("findmnt", "-no", "UUID", "--target", str(boot)).strip())
    else:
        run_installer("--target=i386-pc", f"--boot-directory={boot}", "--no-floppy", disk)
        _check_boot_sector(disk)
    run("sync", "--file-system", str(boot), timeout=600)


def _check_boot_sector(disk: str) -> None:
    """Whether the boot sector is GRUB's and leads to a core image on this disk."""
    size = sectors.size_of(disk)
    boot = sectors.read(disk, 0, sectors.SECTOR)
    (start,) = struct.unpack_from("<Q", boot, 0x5C)
    core = sectors.read(disk, start * size, sectors.SECTOR)
    if boot[0x180:0x185] != b"GRUB " or not any(core):
        raise LoaderFailed(f"The boot sector of {disk} does not lead to GRUB.")
