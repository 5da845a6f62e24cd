# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether this system crashed since a backup, or was shut down in order each time.

After a crash, data may be on the disk whose inode does not tell of it (docs/decisions.md, "A crash
of the primary"). Two witnesses have to agree that there was none. A service is stopped before the
file systems are unmounted: a boot without its word did not end in order. And at the next start
neither the kernel nor e2fsck had a journal to replay. How often each file system was mounted is
kept with it: a mount that nobody watched, from a rescue medium or by hand, shows as a gap.

The service runs packaging/note-boot; it and `dpsr update` are all that read and write the file.
"""

import glob
import json
import os
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from builder.change import superblock
from core.errors import CannotCopyFileSystem, ToolError
from core.files import write_durably
from core.machine.devices import boot_id, read_text
from core.machine.mounts import parse_mountinfo
from core.model.plain import Misfit, from_plain, to_plain
from core.record import FOLDER
from core.run import run

FILE: Final = "boots.json"
_KEPT: Final = 200
"""Boots; who restarts more often between two backups has all of it compared once."""
_TURNS: Final = 1 << 16
"""The mount count of a superblock has 16 bits."""
_CRASHED: Final = re.compile(
    r"EXT4-fs .*(recovery (complete|required)|mounting (unchecked fs|fs with errors))"
    r"|recovering journal|not cleanly unmounted"
)
"""The words of fs/ext4/super.c and of e2fsck; those about an unchecked file system are of one
without a journal."""
_FSCK_LOG: Final = Path("/run/initramfs/fsck.log")
_TRANSLATED: Final = "/usr/share/locale/*/LC_MESSAGES/e2fsprogs.mo"
"""With it, e2fsck may say in another language that it replayed a journal."""


@dataclass(frozen=True, slots=True)
class Boot:
    """One start of the system."""

    boot: str
    """The kernel's boot id."""
    clean: bool
    """No journal was replayed when it started."""
    ended: bool
    """It was shut down in order, as far as this system could still write it down."""
    mounts: tuple[tuple[str, int], ...]
    """By UUID of an ext4 file system: how often it had been mounted, this time included."""


def expected(
    then: str, mounts: Mapping[str, int], now: str, boots: Sequence[Boot]
) -> dict[str, int]:
    """How often each file system must have been mounted by now, if it never crashed. Pure.

    `mounts`: how often it had been in the boot `then`, by UUID; `now` is the boot that runs.
    Those of which it cannot be said are left out.
    """
    if then == now:
        return dict(mounts)
    places = [number for number, each in enumerate(boots) if each.boot == then]
    if not places or boots[-1].boot != now:
        return {}
    since = boots[places[-1] :]
    if not all(each.ended for each in since[:-1]) or not all(each.clean for each in since[1:]):
        return {}
    counts = dict(mounts)
    for each in since[1:]:
        seen = dict(each.mounts)
        counts = {
            name: after
            for name, count in counts.items()
            if seen.get(name) == (after := (count + 1) % _TURNS)
        }
    return counts


def started(known: Sequence[Boot], boot: str, mounts: Mapping[str, int], *, clean: bool) -> tuple[
    Boot, ...
]:  # fmt: skip
    """The boots with the one that runs. Pure. Said again, it only is not over any more."""
    if known and known[-1].boot == boot:
        return (*known[:-1], replace(known[-1], ended=False))
    return (*known, Boot(boot, clean, False, tuple(sorted(mounts.items()))))[-_KEPT:]


def ended(known: Sequence[Boot], boot: str) -> tuple[Boot, ...]:
    """The boots, the one that runs being shut down. Pure."""
    return tuple(replace(each, ended=each.ended or each.boot == boot) for each in known)


def replayed(kernel: str, checks: str) -> bool:
    """Whether the kernel's log since its start, or e2fsck's words, tell of a crash. Pure."""
    return bool(_CRASHED.search(f"{kernel}\n{checks}"))


def read(folder: Path = FOLDER) -> tuple[Boot, ...]:
    """The boots on record, the oldest first; none where there is no file that can be read."""
    try:
        return tuple(from_plain(Boot, each) for each in json.loads((folder / FILE).read_bytes()))
    except (OSError, ValueError, TypeError, Misfit):
        return ()


def note_start(folder: Path = FOLDER) -> None:
    """Write down how this system was started. Raises OSError."""
    boots = started(read(folder), boot_id(), _mounts(), clean=_is_clean())
    _write(boots, folder)


def note_end(folder: Path = FOLDER) -> None:
    """Write down that it is being shut down. Raises OSError."""
    _write(ended(read(folder), boot_id()), folder)


def _write(boots: Sequence[Boot], folder: Path) -> None:
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    write_durably(folder / FILE, json.dumps([to_plain(each) for each in boots]).encode() + b"\n")


def _is_clean() -> bool:
    """Whether everybody who would have told of a journal was heard, and nobody did."""
    kernel = _kernel_log()
    if kernel is None or glob.glob(_TRANSLATED):
        return False
    try:
        said = run("journalctl", "--boot", "--quiet", "--output=cat", "--identifier=systemd-fsck")
    except ToolError:
        return False
    return not replayed(kernel, f"{read_text(str(_FSCK_LOG))}\n{said}")


def _kernel_log() -> str | None:
    """All that the kernel has said since it was started; None when the beginning is lost."""
    records: list[bytes] = []
    try:
        descriptor = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        while True:
            records.append(os.read(descriptor, 8192))
    except BlockingIOError:
        pass
    except OSError:
        return None  # overwritten while it was read
    finally:
        os.close(descriptor)
    # Each is PRIORITY,NUMBER,MICROSECONDS,FLAGS;TEXT, numbered from 0 at the kernel's start.
    first = records[0].split(b";")[0].split(b",") if records else []
    if len(first) < 2 or first[1] != b"0":
        return None
    return b"".join(records).decode("utf-8", "replace")


def _mounts() -> dict[str, int]:
    """By UUID: how often each ext4 file system that is mounted has been mounted."""
    found = {}
    for entry in parse_mountinfo(read_text("/proc/self/mountinfo")):
        if entry.fstype == "ext4":
            try:
                with open(f"/dev/block/{entry.dev[0]}:{entry.dev[1]}", "rb") as device:
                    device.seek(superblock.AT)
                    shape = superblock.parse(device.read(superblock.SIZE), entry.source)
            except (OSError, CannotCopyFileSystem):
                continue  # of this one nothing will be known
            found[str(uuid.UUID(bytes=shape.uuid))] = shape.mounts
    return found
