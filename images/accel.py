# SPDX-License-Identifier: GPL-3.0-or-later
"""KVM where it works, emulation elsewhere. Whether it works is found out by booting a kernel."""

import functools
import glob
import os
import platform
import tempfile
import time
from pathlib import Path
from typing import Final

from core.run import end, run, start
from images import cache

TCG: Final = ("-accel", "tcg,thread=multi", "-cpu", "qemu64,cx16=off,svm=off")
KVM: Final = ("-accel", "kvm", "-cpu", "host")

_ALIVE: Final = b"Kernel panic - not syncing"
"""A kernel without root file system that comes this far has run user-visible code for a second."""


def accelerator(kernel: Path | None = None) -> tuple[str, ...]:
    """QEMU's arguments: KVM if a stock kernel was seen to boot under it on this host, else TCG.

    `/dev/kvm` alone proves nothing: on some nested hosts it is there and guests hang. `kernel` is
    any stock kernel image; by default one of this machine's own. The answer is cached by host
    kernel, QEMU and boot of the host.
    """
    forced = os.environ.get("DPSR_ACCEL")
    if forced is not None:
        return KVM if forced == "kvm" else TCG
    return KVM if _kvm_works(kernel or _own_kernel()) else TCG


@functools.cache
def _kvm_works(kernel: Path | None) -> bool:
    if kernel is None or not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    known = cache.folder() / "kvm-works"
    token = f"{platform.release()} {boot} {os.getuid()}"
    if known.is_file() and (said := known.read_text(encoding="ascii").rsplit(" ", 1))[0] == token:
        return said[1] == "yes"
    works = _try(kernel)
    known.write_text(f"{token} {'yes' if works else 'no'}", encoding="ascii")
    return works


def _own_kernel() -> Path | None:
    found = sorted(p for p in glob.glob("/boot/vmlinuz-*") if os.access(p, os.R_OK))
    return Path(found[-1]) if found else None


def _try(kernel: Path, timeout: float = 15) -> bool:
    with tempfile.TemporaryDirectory(prefix="dpsr-kvm-") as folder:
        log = Path(folder, "console")
        child = start(
            "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none",
            "-machine", "q35", *KVM, "-m", "256M", "-nic", "none", "-no-reboot",
            "-kernel", str(kernel), "-append", "console=ttyS0 panic=-1", "-serial", f"file:{log}",
        )  # fmt: skip
        try:
            deadline = time.monotonic() + timeout
            while time.monotonic() < deadline:
                if log.is_file() and _ALIVE in log.read_bytes():
                    return True
                if child.poll() is not None:
                    return log.is_file() and _ALIVE in log.read_bytes()
                time.sleep(0.1)
            return False
        finally:
            end(child)


def qemu_version() -> str:
    """First line of `qemu-system-x86_64 --version`."""
    return run("qemu-system-x86_64", "--version").splitlines()[0]
