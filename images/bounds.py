# SPDX-License-Identifier: GPL-3.0-or-later
"""A virtual machine beside the machine's real work: it waits behind it, and takes no more memory.

By a transient scope of systemd, where that runs; by `nice` in any case.
"""

import os
import re
from pathlib import Path
from typing import Final

from core.errors import CommandFailed, NoMemory, ProgramTimeout
from core.run import have, run

_OVERHEAD: Final = 256
"""MiB that QEMU takes beside the guest's own, with some room for the files that it reads."""
_WEIGHT: Final = 20
"""Of the processors' time; everything else has 100."""
_SYSTEMD: Final = Path("/run/systemd/system")


def bounded(memory_mib: int) -> tuple[str, ...]:
    """What goes before the command line of a guest with so much memory."""
    return words(memory_mib, scope=_has_scopes())


def words(memory_mib: int, *, scope: bool) -> tuple[str, ...]:
    """The same, by whether systemd makes scopes. Pure."""
    nice = ("nice", "-n", "10")
    if not scope:
        return nice
    most = memory_mib + 2 * _OVERHEAD
    return (
        "systemd-run", "--scope", "--quiet", "--collect", "--description=Boot test of dpsr",
        f"--property=CPUWeight={_WEIGHT}", f"--property=IOWeight={_WEIGHT}",
        f"--property=MemoryMax={most}M", "--property=MemorySwapMax=0", "--", *nice,
    )  # fmt: skip


def need_memory(memory_mib: int, meminfo: str | None = None) -> None:
    """Raise NoMemory unless the machine can spare what a guest with so much memory takes.

    `meminfo`: the text of /proc/meminfo, which is read when it is not given.
    """
    text = Path("/proc/meminfo").read_text("ascii") if meminfo is None else meminfo
    found = re.search(r"^MemAvailable:\s+(\d+) kB$", text, re.MULTILINE)
    free = int(found[1]) // 1024 if found else memory_mib + _OVERHEAD
    if free < memory_mib + _OVERHEAD:
        raise NoMemory(
            f"A virtual machine with {memory_mib} MiB takes {memory_mib + _OVERHEAD}, and "
            f"{free} MiB are free. Nothing was started."
        )


def _has_scopes() -> bool:
    """Whether a scope can be made: root's systemd runs, and answers."""
    if os.geteuid() != 0 or not _SYSTEMD.is_dir() or not have("systemd-run"):
        return False
    try:
        run("systemd-run", "--scope", "--quiet", "--collect", "true", timeout=10)
    except (CommandFailed, ProgramTimeout):
        return False
    return True
