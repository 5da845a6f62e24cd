# SPDX-License-Identifier: GPL-3.0-or-later
"""What UEFI firmware is to do at the next start, said by its variables alone.

A variable is a file: 4 bytes of attributes, then its value (kernel: filesystems/efivarfs).
"""

import os
import struct
from pathlib import Path
from typing import Final

from core.errors import CommandFailed
from core.run import run

UEFI: Final = Path("/sys/firmware/efi")
_VARIABLES: Final = UEFI / "efivars"
_GLOBAL: Final = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
_KEPT: Final = 7
"""Non-volatile, for the boot and for the running system."""
_SETUP: Final = 1
"""EFI_OS_INDICATIONS_BOOT_TO_FW_UI."""


def is_uefi() -> bool:
    """Whether the machine was started by UEFI firmware."""
    return UEFI.is_dir()


def start_here_again() -> None:
    """Let the firmware's next start take the entry that this one took. Raises OSError.

    BIOS needs nothing: it has no one-time choice that outlasts a restart.
    """
    if is_uefi():
        folder = _variables()
        _write(folder, "BootNext", _read(folder, "BootCurrent")[:2])


def can_set_up(folder: Path | None = None) -> bool:
    """Whether the firmware can be asked to show its setup at the next start."""
    try:
        found = folder or (_variables() if is_uefi() else None)
        return found is not None and bool(_flags(found, "OsIndicationsSupported") & _SETUP)
    except OSError:
        return False


def set_up_next() -> None:
    """Let the firmware's next start end in its setup. Raises OSError."""
    folder = _variables()
    try:
        flags = _flags(folder, "OsIndications")
    except FileNotFoundError:
        flags = 0
    _write(folder, "OsIndications", struct.pack("<Q", flags | _SETUP))


def _variables() -> Path:
    """Where the variables are, mounted now if need be. Raises OSError."""
    if not os.path.ismount(_VARIABLES):
        try:
            run("mount", "-t", "efivarfs", "efivarfs", str(_VARIABLES))
        except CommandFailed as reason:
            raise OSError(str(reason)) from None
    return _VARIABLES


def _flags(folder: Path, name: str) -> int:
    return int.from_bytes(_read(folder, name)[:8], "little")


def _read(folder: Path, name: str) -> bytes:
    return (folder / f"{name}-{_GLOBAL}").read_bytes()[4:]


def _write(folder: Path, name: str, value: bytes) -> None:
    """By one write: each is a call of the firmware."""
    path = folder / f"{name}-{_GLOBAL}"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        os.write(descriptor, struct.pack("<I", _KEPT) + value)
    finally:
        os.close(descriptor)
