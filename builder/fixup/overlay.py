# SPDX-License-Identifier: GPL-3.0-or-later
"""Writable, throw-away overlays on slots: dm-snapshot with its store in memory.

What is written to an overlay never reaches the slot; `changes` reads it back from the store. The
overlay carries the primary's UUID for a moment, so the package's udev rule keeps every prober away
from devices called `dpsr-…`. The store is an anonymous file under a loop device that goes when
dm lets go of it: a killed run leaves one dm device and nothing else.
"""

import contextlib
import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from builder.fixup import cow
from core.errors import CommandFailed, FixupFailed, KernelFeatureMissing, Refused, ToolError
from core.run import need, run

PREFIX: Final = "dpsr-"
UUID_PREFIX: Final = "DPSR-"
ROOM: Final = 64 * 1024 * 1024
"""Bytes that one overlay can take up; memory is used as it fills."""
CHUNK: Final = 4096

_RULE: Final = "59-dpsr.rules"
_RULE_FOLDERS: Final = ("/etc", "/run", "/usr/lib", "/lib")
_LOOP_CTL_GET_FREE: Final = 0x4C82
_LOOP_CONFIGURE: Final = 0x4C0A
_AUTOCLEAR: Final = 4
_CONFIG: Final = struct.Struct("=II5Q4I64s64s32s2Q8Q")
"""struct loop_config with its struct loop_info64, of linux/loop.h."""
_QUIETLY: Final = ("--noudevrules", "--noudevsync")


@dataclass(frozen=True, slots=True)
class Overlay:
    """One overlay, as long as its block lasts."""

    name: str
    path: str
    """Its device."""
    origin: str
    _store: int
    _room: int

    def check(self) -> None:
        """Raise FixupFailed if the overlay ran full."""
        words = run("dmsetup", "status", self.name).split()
        used, _, total = words[3].partition("/") if len(words) > 3 else ("", "", "")
        if not used.isdigit() or int(used) >= int(total):
            raise FixupFailed(
                f"The fix-ups of {self.origin} do not fit into {self._room >> 20} MiB of memory "
                f"({' '.join(words[3:])}).",
                "Remove kernels that nobody needs (apt autoremove), then try again.",
            )

    def changes(self) -> list[tuple[int, bytes]]:
        """What was written: `(offset, content)` of chunks of 4 KiB, sorted; the overlay ends here.

        Chunks that came out as they were are among them. Raises FixupFailed.
        """
        with explained(self):
            descriptor = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        self.check()
        run("dmsetup", "suspend", *_QUIETLY, self.name)

        def read(offset: int, length: int) -> bytes:
            return os.pread(self._store, length, offset)

        found = cow.changed(read, self._room)
        return sorted((offset, read(at, length)) for offset, at, length in found)


@contextmanager
def explained(*layers: Overlay) -> Iterator[None]:
    """Let FixupFailed say why files of a copy could not be written: first, which overlay is full.

    What the system says against it, or mount, is only a consequence then.
    """
    try:
        yield
    except (OSError, CommandFailed) as reason:
        for layer in layers:
            layer.check()
        if isinstance(reason, OSError):
            where = f" ({reason.filename})" if reason.filename else ""
            why = reason.strerror or reason
            raise FixupFailed(f"The copy's files cannot be written: {why}{where}.") from reason
        raise


def need_overlays() -> None:
    """Refuse now what would fail later. Raises ProgramMissing, KernelFeatureMissing, Refused."""
    need("dmsetup", "modprobe")
    run("modprobe", "--quiet", "--all", "dm-snapshot", "loop", ok=(0, 1))
    why = "work on the copy's files"
    if not Path("/dev/loop-control").exists():
        raise KernelFeatureMissing("loop device", why)
    targets = run("dmsetup", "targets", ok=(0, 1)).split() if _has_dm() else []
    if "snapshot" not in targets:
        raise KernelFeatureMissing("dm-snapshot", why)
    _need_rule(Refused)


@contextmanager
def overlay(origin: str, name: str, room: int = ROOM) -> Iterator[Overlay]:
    """Lay a writable overlay called `dpsr-NAME` over the device `origin`, which stays as it is.

    Nobody may write to `origin` meanwhile. Raises FixupFailed, KernelFeatureMissing.
    """
    _need_rule(FixupFailed)
    sectors = _size(origin) // 512
    store = os.memfd_create(f"dpsr-{name}", os.MFD_CLOEXEC)
    full = f"{PREFIX}{name}"
    try:
        os.ftruncate(store, room)
        loop, loop_path = _attach(store, full)
        try:
            run(
                "dmsetup", "create", full, "--uuid", f"{UUID_PREFIX}{name}-{os.getpid()}",
                *_QUIETLY, "--table", f"0 {sectors} snapshot {origin} {loop_path} P {CHUNK // 512}",
            )  # fmt: skip
        finally:
            os.close(loop)  # dm holds it now; when dm lets go, or never took it, it clears itself
        try:
            # The kernel's own node: links under /dev/mapper are udev's, which is kept out.
            minor = run("dmsetup", "info", "-c", "--noheadings", "-o", "minor", full).strip()
            yield Overlay(full, f"/dev/dm-{minor}", origin, store, room)
        finally:
            _remove(full)
    finally:
        os.close(store)


def clean_leftovers() -> list[str]:
    """Remove overlays that a killed run left behind, and return their names.

    To be called under the lock that keeps a second run away, before the disk is opened.
    """
    if not _has_dm():
        return []
    columns = ("-c", "--noheadings", "--separator", "\t", "-o", "name,uuid")
    listed = run("dmsetup", "info", *columns, ok=(0, 1))
    found = []
    for line in listed.splitlines():
        name, _, uuid = line.strip().partition("\t")
        if name.startswith(PREFIX) and uuid.startswith(UUID_PREFIX):
            _remove(name)
            found.append(name)
    return found


def _remove(name: str) -> None:
    run("dmsetup", "remove", "--retry", *_QUIETLY, name)


def _has_dm() -> bool:
    """Whether this kernel has device mapper at all."""
    return "device-mapper" in Path("/proc/misc").read_text("ascii")


def _need_rule(error: type[ToolError]) -> None:
    if not any(Path(folder, "udev/rules.d", _RULE).exists() for folder in _RULE_FOLDERS):
        raise error(
            f"The udev rule {_RULE}, which keeps other programs away, is not installed.",
            "Install the package dpsr again.",
        )


def _size(device: str) -> int:
    descriptor = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.lseek(descriptor, 0, os.SEEK_END)
    finally:
        os.close(descriptor)


def _attach(store: int, name: str) -> tuple[int, str]:
    """Put a loop device over the file `store`: its descriptor and path. It clears itself."""
    label = name.encode()[:63]
    with _control() as control:
        while True:
            number = fcntl.ioctl(control, _LOOP_CTL_GET_FREE)
            path = f"/dev/loop{number}"
            loop = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            config = _CONFIG.pack(
                store, 0, 0, 0, 0, 0, 0, 0, 0, 0, _AUTOCLEAR, label, b"", b"", *([0] * 10)
            )
            try:
                fcntl.ioctl(loop, _LOOP_CONFIGURE, config)
            except OSError as reason:
                os.close(loop)
                if reason.errno == errno.EBUSY:
                    continue  # another program was quicker
                raise
            return loop, path


@contextmanager
def _control() -> Iterator[int]:
    try:
        control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    except OSError as reason:
        feature = f"loop device ({reason.strerror})"
        raise KernelFeatureMissing(feature, "work on the copy's files") from None
    try:
        yield control
    finally:
        with contextlib.suppress(OSError):
            os.close(control)
