# SPDX-License-Identifier: GPL-3.0-or-later
"""What GRUB would start: the kernels that a grub.cfg of Debian's names, and the default one. Pure.

Only what `update-grub` writes is understood: `linux` and `initrd` lines in menu entries. What
depends on GRUB's variables is left out.
"""

import re
import shlex
from dataclasses import dataclass
from typing import Final

_ENTRY: Final = re.compile(r"^\s*menuentry\s+(.*?)\{\s*$")
_LINUX: Final = re.compile(r"^\s*linux(?:efi|16)?\s+(\S+)\s*(.*)$")
_INITRD: Final = re.compile(r"^\s*initrd(?:efi|16)?\s+(.+)$")
_ID: Final = "$menuentry_id_option"


@dataclass(frozen=True, slots=True)
class BootEntry:
    """One kernel to start. Paths are those of the file system that holds grub.cfg."""

    title: str
    id: str
    kernel: str
    initrds: tuple[str, ...]
    arguments: str

    @property
    def root(self) -> str:
        """UUID of the root file system; empty where it is named in another way."""
        found = re.search(r"(?:^|\s)root=UUID=(\S+)", self.arguments)
        return found[1] if found else ""


def entries(text: str) -> tuple[BootEntry, ...]:
    """The entries of a grub.cfg that start a kernel, in its order."""
    found: list[BootEntry] = []
    title = name = kernel = arguments = ""
    for line in text.splitlines():
        if match := _ENTRY.match(line):
            title, name = _head(match[1])
            kernel = ""
        elif match := _LINUX.match(line):
            kernel, arguments = match[1], _plain(match[2])
        elif (match := _INITRD.match(line)) and kernel:
            initrds = tuple(word for word in match[1].split() if "$" not in word)
            found.append(BootEntry(title, name, kernel, initrds, arguments))
            kernel = ""
    return tuple(found)


def default(text: str, saved: str = "") -> BootEntry | None:
    """What GRUB would start by itself: the entry called `saved` where that is asked for.

    Else the first. None: there is nothing to start.
    """
    found = entries(text)
    wanted = saved.rpartition(">")[2]
    if "saved_entry" in text and wanted:
        for each in found:
            if wanted in {each.id, each.title}:
                return each
    return found[0] if found else None


def _head(words: str) -> tuple[str, str]:
    """Title and id of a `menuentry` line."""
    try:
        parts = shlex.split(words)
    except ValueError:
        return "", ""
    at = parts.index(_ID) + 1 if _ID in parts else len(parts)
    return (parts[0] if parts else ""), (parts[at] if at < len(parts) else "")


def _plain(arguments: str) -> str:
    return " ".join(word for word in arguments.split() if "$" not in word)
