# SPDX-License-Identifier: GPL-3.0-or-later
"""What GRUB would start: the kernels that a grub.cfg of Debian's names, and the default one. Pure.

Only what `update-grub` writes is understood: `linux` and `initrd` lines in menu entries. What
depends on GRUB's variables is left out.
"""

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

_ENTRY: Final = re.compile(r"^\s*(?:menuentry|submenu)\s+(.*?)\{\s*$")
_DEFAULT: Final = re.compile(r"^\s*set default=[\"']?([^\"'\n]*)", re.MULTILINE)
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


@dataclass(slots=True)
class _Item:
    """One line of a menu: an entry, or a menu below it. `boot` None: it starts no kernel."""

    title: str
    id: str
    items: "list[_Item]" = field(default_factory=list)
    boot: BootEntry | None = None

    @property
    def starts(self) -> BootEntry | None:
        """What choosing it starts: of a menu, its first entry."""
        return self.items[0].starts if self.items else self.boot

    def all(self) -> Iterator[BootEntry]:
        if self.boot is not None:
            yield self.boot
        for item in self.items:
            yield from item.all()


def entries(text: str) -> tuple[BootEntry, ...]:
    """The entries of a grub.cfg that start a kernel, in its order."""
    return tuple(_menu(text).all())


def default(text: str, saved: str = "") -> BootEntry | None:
    """What GRUB would start by itself: what `set default` names, or `saved` where that asks for it.

    That is a number, an id or a title, or several of them with `>` between, from the outermost
    menu inwards. Where it leads to no kernel, the first entry. None: there is nothing to start.
    """
    top = _menu(text)
    wanted = next((word for word in _DEFAULT.findall(text) if "next_entry" not in word), "")
    if "saved_entry" in wanted:
        wanted = saved
    found = tuple(top.all())
    last = wanted.rpartition(">")[2]
    return (
        _at(top, wanted.split(">"))
        # An entry that update-grub has moved into another menu since.
        or next((each for each in found if last and last in {each.id, each.title}), None)
        or (found[0] if found else None)
    )


def _at(menu: _Item, path: Sequence[str]) -> BootEntry | None:
    item = menu
    for word in path:
        named = [one for one in item.items if word and word in {one.id, one.title}]
        if word.isdecimal() and int(word) < len(item.items):
            item = item.items[int(word)]
        elif named:
            item = named[0]
        else:
            return None
    return item.starts


def _menu(text: str) -> _Item:
    """The whole menu, from the lines in which entries and menus begin and end."""
    top = _Item("", "")
    open_: list[_Item | None] = [top]
    kernel = arguments = ""
    for line in text.splitlines():
        here = next(item for item in reversed(open_) if item is not None)
        if match := _ENTRY.match(line):
            here.items.append(_Item(*_head(match[1])))
            open_.append(here.items[-1])
            kernel = ""
        elif line.rstrip().endswith("{"):
            open_.append(None)  # a function
        elif line.strip() == "}" and len(open_) > 1:
            open_.pop()
        elif match := _LINUX.match(line):
            kernel, arguments = match[1], _plain(match[2])
        elif (match := _INITRD.match(line)) and kernel:
            initrds = tuple(word for word in match[1].split() if "$" not in word)
            here.boot = BootEntry(here.title, here.id, kernel, initrds, arguments)
            kernel = ""
    return top


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
