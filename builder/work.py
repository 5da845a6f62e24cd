# SPDX-License-Identifier: GPL-3.0-or-later
"""What was done on the copy after it was booted, and would be lost by the next backup."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from builder.vault import manifests
from core.errors import CommandFailed, WorkOnCopy
from core.model.manifest import Manifest, SlotState
from core.namespace import mounted
from core.screen import moment

_SHOWN: Final = 8
_SLACK: Final = 2.0
"""Seconds: what the backup itself wrote last is no work."""


@dataclass(frozen=True, slots=True)
class Work:
    """Files that were written on the copy."""

    count: int
    newest: tuple[str, ...]
    """Some of them, as the copy names them, those first that were written last."""
    folders: tuple[tuple[str, int], ...]
    """How many lie where: folder and number, the largest first."""

    def sentence(self) -> str:
        """For people."""
        if not self.count:
            return "No file was written there."
        where = ", ".join(f"{number} in {folder}" for folder, number in self.folders)
        return f"{self.count} files were written there ({where}), last {', '.join(self.newest)}."


def done_on_copy(slot: SlotState, device: str, since: float) -> Iterator[tuple[float, str]]:
    """The files of a slot that were changed after `since` (seconds since the epoch), with when.

    The slot is mounted read-only, its journal left alone. To be called in a private mount
    namespace. Raises CommandFailed when it cannot be mounted.
    """
    with mounted(device, "work", "ro", "noload", fstype=slot.fstype) as root:
        for folder, folders, files in os.walk(root):
            folders.sort()
            for name in files:
                path = Path(folder, name)
                changed = path.lstat().st_ctime
                if changed > since + _SLACK:
                    yield changed, f"{slot.mountpoint.rstrip('/')}/{path.relative_to(root)}"


def refuse(last: Manifest, vault: Path, path: Callable[[int], str]) -> None:
    """Raise WorkOnCopy, which says what an update would give up. `path`: by partition number."""
    since = (vault / manifests.file_name(last.txid)).stat().st_mtime
    found: list[tuple[float, str]] = []
    unreadable = []
    for slot in last.slots:
        if slot.superblock:
            try:
                found += done_on_copy(slot, path(slot.number), since)
            except (CommandFailed, OSError):  # it may be damage, not work: that heals it, too
                unreadable.append(slot.mountpoint)
    said = [f"The copy was started or written to since its backup of {moment(last.taken)}."]
    if found or not unreadable:
        said.append(summary(found).sentence())
    if unreadable:
        said.append(f"What its file system of {', '.join(unreadable)} holds cannot be read.")
    raise WorkOnCopy(" ".join([*said, "Nothing was written now."]))


def summary(found: list[tuple[float, str]]) -> Work:
    """The whole in a few words. Pure."""
    newest = [name for _, name in sorted(found, reverse=True)[:_SHOWN]]
    folders = Counter(_top(name) for _, name in found)
    return Work(len(found), tuple(newest), tuple(folders.most_common(5)))


def _top(name: str) -> str:
    """The folder two steps below the root, `/var/lib`; or `/` for a file there."""
    return "/".join(name.split("/")[:-1][:3]) or "/"
