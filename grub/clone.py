# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts GRUB back on a clone that another tool made, so that it boots alone and finds itself.

The clone keeps its own layout: no control partition, the loader starts its own /boot/grub.
"""

import os
from pathlib import Path
from typing import Final

from core.errors import LoaderFailed
from core.files import write_durably
from core.model.machine import Firmware
from core.run import run
from grub import signed
from grub.install import REMOVABLE, check_bios, check_uefi, has_boot_sector, run_installer, sync

_ESPS: Final = ("boot/efi", "efi", "boot")


def install_on_clone(disk: str, root: Path, firmware: Firmware) -> None:
    """Reinstall the loaders of the clone on `disk`, for its file systems as they are now.

    `root` is where its root file system is mounted, with its /boot and its ESP inside. It must
    start by `firmware`, that of its original; the other's loader is renewed where it has one.
    Neither NVRAM nor any other disk is touched. Raises LoaderFailed.
    """
    grub = root / "boot/grub"
    esp = next((root / name for name in _ESPS if _is_esp(root / name)), None)
    if not grub.is_dir():
        raise LoaderFailed(f"The clone on {disk} has no GRUB of its own in /boot/grub.")
    if esp is None and firmware == "uefi":
        raise LoaderFailed(f"The clone on {disk} has no EFI system partition.")
    try:
        if firmware == "bios" or ((grub / "i386-pc").is_dir() and has_boot_sector(disk)):
            _for_bios(disk, grub)
        if esp is not None:
            _for_uefi(esp, grub)
    except OSError as error:
        raise LoaderFailed(
            f"The boot loader of the clone on {disk} could not be finished: {error.strerror}."
        ) from None


def stub(uuid: str, folder: str) -> str:
    """The script on an ESP that leads a signed GRUB to `folder` of the file system `uuid`."""
    return (
        f"search.fs_uuid {uuid} root\nset prefix=($root)'{folder}'\nconfigfile $prefix/grub.cfg\n"
    )


def _for_bios(disk: str, grub: Path) -> None:
    run_installer("--target=i386-pc", f"--boot-directory={grub.parent}", "--no-floppy", disk)
    sync(grub)
    check_bios(disk, grub)


def _for_uefi(esp: Path, grub: Path) -> None:
    uuid = run("grub-probe", "--target=fs_uuid", str(grub)).strip()
    folder = run("grub-mkrelpath", str(grub)).strip()
    has_shim = (esp / "EFI/debian/shimx64.efi").is_file()
    if has_shim:
        _copy_signed(esp)
    else:
        target = (
            "--target=x86_64-efi", f"--efi-directory={esp}", f"--boot-directory={grub.parent}",
            "--no-nvram", "--no-uefi-secure-boot",
        )  # fmt: skip
        run_installer(*target, "--removable")
        if (esp / "EFI/debian/grubx64.efi").is_file():
            # It loads the same modules, which have just been replaced.
            run_installer(*target, "--bootloader-id=debian")
    if has_shim or (esp / "EFI/debian/grub.cfg").is_file():
        write_durably(esp / "EFI/debian/grub.cfg", stub(uuid, folder).encode())
    sync(esp)
    sync(grub)
    check_uefi(esp, uuid)


def _copy_signed(esp: Path) -> None:
    """grub-install would take the signed files of the running system: the clone has its own."""
    boot = (esp / REMOVABLE).parent
    boot.mkdir(parents=True, exist_ok=True)
    signed.without_fallback(boot)
    for source, target in signed.on_esp():
        if (esp / "EFI/debian" / source).is_file():
            write_durably(esp / target, (esp / "EFI/debian" / source).read_bytes())


def _is_esp(folder: Path) -> bool:
    return os.path.ismount(folder) and (folder / "EFI").is_dir()
