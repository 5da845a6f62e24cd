# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps the boot loaders on the control partition as they ought to be, bootable at each instant.

FAT is not crash-safe, so what is good stays untouched: GRUB's own files are replaced when they are
damaged, and then there is nothing to keep. shim and the signed GRUB are renewed file by file.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from builder.check import sums
from builder.control_mount import control_at
from builder.target import Target
from core.errors import LoaderFailed, ToolError
from core.model.machine import Disk
from core.namespace import mounted
from core.screen import Screen
from grub import install, signed

WITHOUT: Final = "The DPSR disk will not start under Secure Boot: {reason}"


def make(disk: str, control: Path, menu: Mapping[str, bytes], screen: Screen) -> None:
    """All of it, on a disk that holds nothing to be started yet. Raises LoaderFailed."""
    install.install_loader(disk, control, menu)
    found = _found(screen)
    if found is None:
        return
    try:
        signed.put(control, found)
    except OSError as error:
        raise LoaderFailed(f"shim could not be put on {disk}: {error.strerror}.") from None
    screen.note("With shim and Debian's signed GRUB, for Secure Boot")


def mend(disk: Disk, control: Path, menu: Mapping[str, bytes], screen: Screen) -> None:
    """Bring the loader of a prepared disk in order; what is good stays as it is.

    Raises LoaderFailed, OSError.
    """
    damaged, unlisted = sums.check(control, sums.raw_of(disk))
    found = _found(screen)
    ours = (*menu, *(signed.names() if found else ()))
    if sums.LOADER in unlisted or needs_installer(damaged, ours):
        make(disk.path, control, menu, screen)
        sums.keep_loader(control, sums.raw_of(disk))
        return
    install.write_menu(
        control, {name: data for name, data in menu.items() if _differs(control / name, data)}
    )
    if found is not None:
        signed.put(control, found)
    sums.renew(control, ours)


def needs_installer(damaged: Iterable[str], ours: Iterable[str]) -> bool:
    """Whether what is damaged is more than what we write ourselves, file by file. Pure."""
    mended = frozenset(ours)
    return any(not name.startswith("dpsr/r-") and name not in mended for name in damaged)


def refresh(target: Target, screen: Screen) -> None:
    """Give a prepared disk shim and signed GRUB of this machine as they are now, if it has them.

    An old shim may have been revoked. What goes wrong is a warning: those before are still there.
    """
    try:
        found = signed.find()
        if found is None:
            return
        with mounted(target.control, "control", "ro", fstype="vfat") as control:
            wanted = found.differing(control)
            listed = sums.agree(control, signed.names())
        if not wanted and listed:
            return
        if wanted:
            screen.step("Renewing shim and the signed GRUB")
        with control_at(target.control, screen) as control:
            signed.put(control, found)
            sums.renew(control, signed.names())
    except (ToolError, OSError) as reason:
        screen.warn(f"shim and GRUB on the DPSR disk are not those of today: {reason}")


def _found(screen: Screen) -> signed.Signed | None:
    try:
        return signed.find()
    except LoaderFailed as reason:
        screen.warn(WITHOUT.format(reason=reason))
        return None


def _differs(path: Path, data: bytes) -> bool:
    try:
        return path.read_bytes() != data
    except OSError:
        return True
