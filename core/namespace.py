# SPDX-License-Identifier: GPL-3.0-or-later
"""Mounts that nobody else sees: a private mount namespace for this process, and mounts in it.

Whatever is mounted in it is gone when the process is, however it ends, and no desktop, udev or
backup agent ever finds it.
"""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from core.errors import KernelFeatureMissing, ToolError
from core.run import run

_CLONE_NEWNS: Final = 0x00020000
_MS_REC: Final = 0x4000
_MS_SLAVE: Final = 0x80000

RUNTIME: Final = Path("/run/dpsr")
"""Mount points and other things that may vanish at a reboot."""


def go_private() -> None:
    """Give this process its own view of the mounts.

    Mounts made outside still come in (slave), so that the view of the primary stays true; ours do
    not go out. To be called once, early, before any thread is started. Raises
    KernelFeatureMissing.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if (
        libc.unshare(_CLONE_NEWNS) != 0
        or libc.mount(b"none", b"/", None, _MS_REC | _MS_SLAVE, None) != 0
    ):
        raise KernelFeatureMissing(
            f"mount namespace ({os.strerror(ctypes.get_errno())})",
            "hide what is mounted from others",
        )


@contextmanager
def mounted(device: str, name: str, *options: str, fstype: str = "") -> Iterator[Path]:
    """Mount `device` under /run/dpsr/NAME for the length of the block and yield that folder."""
    folder = RUNTIME / name
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    how = (*(("-t", fstype) if fstype else ()), *(("-o", ",".join(options)) if options else ()))
    run("mount", *how, device, str(folder))
    try:
        yield folder
    except BaseException:
        with suppress(ToolError):  # why the block ended is what counts: the disk may be gone
            run("umount", str(folder))
        raise
    run("umount", str(folder))
