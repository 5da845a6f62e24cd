# SPDX-License-Identifier: GPL-3.0-or-later
"""The firmware's boot manager, as `efibootmgr` reaches it. Decisions are made in grub.order."""

import os
from typing import Protocol

from core.errors import BootOrderFailed, CommandFailed, ProgramMissing, ProgramTimeout
from core.run import run
from grub.nvram import Nvram, parse


class BootManager(Protocol):
    """What can be asked of a firmware. Each method may raise BootOrderFailed."""

    def read(self) -> Nvram:
        """Everything, as it is now."""

    def create(self, disk: str, part: int, label: str, loader: str) -> None:
        """A new entry, active, in no order yet."""

    def delete(self, number: int) -> None:
        """Remove an entry, also from the order."""

    def activate(self, number: int) -> None:
        """Let the firmware try this entry."""

    def set_order(self, order: tuple[int, ...]) -> None:
        """Set BootOrder; every entry in it must exist."""

    def set_next(self, number: int) -> None:
        """Set BootNext: the next start alone goes there."""

    def clear_next(self) -> None:
        """Remove BootNext."""


class Efibootmgr:
    """The machine that this runs on."""

    def read(self) -> Nvram:
        if not os.path.isdir("/sys/firmware/efi"):
            raise BootOrderFailed(
                "This machine was started by BIOS, which keeps no boot entries.",
                "Choose the DPSR disk in the BIOS's boot menu when it is needed.",
            )
        return parse(_ask("-v"))

    def create(self, disk: str, part: int, label: str, loader: str) -> None:
        # -C, not -c: that one would make it the first.
        _ask("-C", "-d", disk, "-p", str(part), "-L", label, "-l", loader)

    def delete(self, number: int) -> None:
        _ask("-b", f"{number:04X}", "-B")

    def activate(self, number: int) -> None:
        _ask("-b", f"{number:04X}", "-a")

    def set_order(self, order: tuple[int, ...]) -> None:
        _ask("-o", ",".join(f"{number:04X}" for number in order))

    def set_next(self, number: int) -> None:
        _ask("-n", f"{number:04X}")

    def clear_next(self) -> None:
        _ask("-N")


def _ask(*arguments: str) -> str:
    try:
        return run("efibootmgr", *arguments)
    except CommandFailed as error:
        raise BootOrderFailed(_reason(error.stderr)) from None
    except (ProgramMissing, ProgramTimeout) as error:
        raise BootOrderFailed(str(error).removesuffix(" Nothing was written.")) from None


def _reason(said: str) -> str:
    if "not supported" in said:
        return "The firmware's variables cannot be reached: efivarfs is not mounted."
    if "Read-only file system" in said or "Permission denied" in said:
        return "The firmware's variables are read-only."
    if "No space left" in said:
        return "The firmware's memory for boot entries is full."
    return f"The firmware refused: {' '.join(said.split()) or 'efibootmgr did not say why'}."
