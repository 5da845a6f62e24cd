# SPDX-License-Identifier: GPL-3.0-or-later
"""The only door to other programs: fixed PATH and locale, no standard input, a time limit.

A failure carries the command ready to paste. A program that is missing is named with the
Debian package that brings it.
"""

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Collection, Mapping
from typing import Final

from core.errors import CommandFailed, ProgramMissing, ProgramTimeout

PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

PACKAGES: Final[Mapping[str, str]] = {
    "blkid": "util-linux", "blockdev": "util-linux", "depmod": "kmod", "dmsetup": "dmsetup",
    "debugfs": "e2fsprogs", "dumpe2fs": "e2fsprogs", "e2fsck": "e2fsprogs",
    "efibootmgr": "efibootmgr",
    "fatlabel": "dosfstools", "findmnt": "util-linux", "fsck.fat": "dosfstools",
    "grub-editenv": "grub-common", "grub-install": "grub2-common",
    "grub-mkrelpath": "grub-common", "grub-probe": "grub-common",
    "grub-script-check": "grub-common", "journalctl": "systemd", "losetup": "mount",
    "lz4": "lz4", "mke2fs": "e2fsprogs", "mkfs.ext4": "e2fsprogs", "mkfs.fat": "dosfstools",
    "mkinitramfs": "initramfs-tools-core",
    "mkswap": "util-linux", "mmdebstrap": "mmdebstrap", "modprobe": "kmod",
    "mount": "mount", "mtype": "mtools",
    "partclone.ext4": "partclone", "partx": "util-linux", "qemu-img": "qemu-utils",
    "qemu-system-x86_64": "qemu-system-x86", "setpriv": "util-linux", "sfdisk": "fdisk",
    "systemctl": "systemd", "systemd-inhibit": "systemd", "systemd-run": "systemd",
    "tune2fs": "e2fsprogs", "udevadm": "udev", "umount": "mount",
    "unmkinitramfs": "initramfs-tools-core", "unshare": "util-linux",
    "update-grub": "grub2-common", "wipefs": "util-linux",
    "zstd": "zstd",
}  # fmt: skip
"""Debian package that brings each program, for the hint of `ProgramMissing`."""


def environment() -> dict[str, str]:
    """The environment of every other program: fixed PATH and locale.

    Nothing is inherited but what a package manager or a temporary folder needs.
    """
    kept = ("TMPDIR", "HOME", "http_proxy")
    inherited = {name: os.environ[name] for name in kept if name in os.environ}
    return inherited | {"PATH": PATH, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}


def have(program: str) -> bool:
    """Whether `program` is on the fixed PATH."""
    return shutil.which(program, path=PATH) is not None


def need(*programs: str) -> None:
    """Raise ProgramMissing for the first of `programs` that is not installed."""
    for program in programs:
        if not have(program):
            raise ProgramMissing(program, PACKAGES.get(program, ""))


def run(
    *argv: str,
    ok: Collection[int] = (0,),
    timeout: float = 60,
    given: bytes = b"",
) -> str:
    """Run a program to its end and return its standard output, decoded as UTF-8.

    `given` is its standard input. `timeout` is in seconds; past it the program and its children
    are killed. Raises ProgramMissing, ProgramTimeout, CommandFailed (exit status not in `ok`).
    """
    return run_bytes(*argv, ok=ok, timeout=timeout, given=given).decode("utf-8", "replace")


def run_bytes(
    *argv: str,
    ok: Collection[int] = (0,),
    timeout: float = 60,
    given: bytes = b"",
) -> bytes:
    """Like `run`, with the standard output as bytes."""
    child = start(*argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        out, err = child.communicate(given, timeout)
    except subprocess.TimeoutExpired:
        end(child)
        raise ProgramTimeout(shlex.join(argv), timeout) from None
    except BaseException:
        # Ctrl-C or SIGTERM while we wait: the child must not outlive us with our mounts open.
        end(child)
        raise
    if child.returncode not in ok:
        raise CommandFailed(shlex.join(argv), child.returncode, err.decode("utf-8", "replace"))
    return out or b""


def start(
    *argv: str,
    stdin: int | None = subprocess.DEVNULL,
    stdout: int | None = subprocess.DEVNULL,
    stderr: int | None = subprocess.DEVNULL,
    pass_fds: Collection[int] = (),
) -> "subprocess.Popen[bytes]":
    """Start a program in a process group of its own and return it; `end` stops it.

    A group of its own keeps a Ctrl-C on our terminal from killing, say, tune2fs half-way: we
    unwind in our own order. Raises ProgramMissing.
    """
    try:
        return subprocess.Popen(  # noqa: S603 - the one place that starts programs, never by a shell
            argv, stdin=stdin, stdout=stdout, stderr=stderr, env=environment(),
            process_group=0, pass_fds=tuple(pass_fds),
        )  # fmt: skip
    except FileNotFoundError:
        raise ProgramMissing(argv[0], PACKAGES.get(argv[0], "")) from None


def end(child: "subprocess.Popen[bytes]", grace: float = 2.0) -> None:
    """Ask a started program to end, then kill its whole group after `grace` seconds."""
    for how, wait in ((signal.SIGTERM, grace), (signal.SIGKILL, None)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, how)
        try:
            child.wait(wait)
        except subprocess.TimeoutExpired:
            continue
        break
    for stream in (child.stdin, child.stdout, child.stderr):
        if stream is not None:
            stream.close()


PIPE: Final = subprocess.PIPE
Process = subprocess.Popen
