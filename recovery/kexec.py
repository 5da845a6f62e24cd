# SPDX-License-Identifier: GPL-3.0-or-later
"""Starts another kernel from this one, without going through the firmware.

By the system call itself: Debian's package kexec-tools would also change how the primary restarts.
"""

import ctypes
import os
import platform
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

_FILE_LOAD: Final = {"x86_64": 320, "aarch64": 294}
"""Numbers of kexec_file_load(2), which works under Secure Boot's lockdown, too."""
_RB_AUTOBOOT: Final = 0x01234567
_RB_POWER_OFF: Final = 0x4321FEDC
_RB_KEXEC: Final = 0x45584543


def load(kernel: Path, initrds: Sequence[Path], arguments: str) -> None:
    """Load `kernel` with its initrds one behind the other. Raises OSError."""
    number = _FILE_LOAD.get(platform.machine())
    if number is None:
        raise OSError(f"no kexec for {platform.machine()}")
    line = arguments.encode() + b"\0"
    with open(kernel, "rb") as image, open(os.memfd_create("initrd"), "wb+") as together:
        for path in initrds:
            with open(path, "rb") as stream:
                shutil.copyfileobj(stream, together)
        together.flush()
        libc = ctypes.CDLL(None, use_errno=True)
        libc.syscall.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_int, ctypes.c_ulong,
                                 ctypes.c_char_p, ctypes.c_ulong]  # fmt: skip
        descriptors = image.fileno(), together.fileno()
        if libc.syscall(number, *descriptors, len(line), line, 0) != 0:
            reason = ctypes.get_errno()
            raise OSError(reason, f"kexec_file_load: {os.strerror(reason)}")


def restart() -> None:
    """Restart the machine through its firmware, now."""
    os.sync()
    ctypes.CDLL(None).reboot(_RB_AUTOBOOT)


def switch_off() -> None:
    """Switch the machine off, now."""
    os.sync()
    ctypes.CDLL(None).reboot(_RB_POWER_OFF)


def go() -> NoReturn:
    """Start what was loaded, now. Raises OSError."""
    os.sync()
    libc = ctypes.CDLL(None, use_errno=True)
    libc.reboot(_RB_KEXEC)
    raise OSError(ctypes.get_errno(), "the kernel that was loaded did not start")
