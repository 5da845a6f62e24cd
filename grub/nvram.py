# SPDX-License-Identifier: GPL-3.0-or-later
"""The firmware's boot entries, from what `efibootmgr -v` prints (versions 17 and 18). Pure."""

import re
from dataclasses import dataclass
from typing import Final, Literal

Way = Literal["file", "tool", "shell", "network", "removable", "other"]

_ENTRY: Final = re.compile(r"Boot([0-9A-Fa-f]{4})(\*| ) ?([^\t]*)(?:\t(.*))?")
_GPT: Final = re.compile(r"HD\(\d+,GPT,([0-9a-fA-F-]{36}),", re.IGNORECASE)
_MBR: Final = re.compile(r"HD\((\d+),MBR,0x([0-9a-fA-F]{1,8}),", re.IGNORECASE)
_LOADER: Final = re.compile(r"/(?:File\(([^)]*)\)|(\\[^\s/]*))")
_SHELLS: Final = (
    "7c04a583-9e3e-4f1c-ad65-e05268d0b4d1",  # edk2's
    "c57ad6b7-0515-40a8-9d21-551652854e37",  # the same, older
)
_NETWORK: Final = re.compile(r"(?:MAC|IPv[46]|Uri|Wi-Fi)\(|BBS\(Network", re.IGNORECASE)
_REMOVABLE: Final = re.compile(r"(?:USB|UsbClass|UsbWwid|CDROM|SD)\(|BBS\((?!HD)", re.IGNORECASE)
_NETWORK_NAME: Final = re.compile(r"\b(?:pxe|network|lan|ipv[46]|https?)\b", re.IGNORECASE)
_REMOVABLE_NAME: Final = re.compile(
    r"\b(?:usb|cd|dvd|cd-?rom|dvd-?rom|floppy|removable)\b", re.IGNORECASE
)
_SHELL_NAME: Final = re.compile(r"\bshell\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Entry:
    """One boot entry of the firmware."""

    number: int
    label: str
    active: bool
    partuuid: str
    """Of the partition that it starts from, as udev writes it; empty where it names none."""
    loader: str
    """File that it starts, with backslashes; empty: the disk's removable-media path, or none."""
    way: Way
    """`file`: from a partition; `tool`: part of the firmware (setup); `other`: mostly a disk."""


@dataclass(frozen=True, slots=True)
class Nvram:
    """What the firmware is going to start, in which order."""

    current: int | None
    """The entry that started this system."""
    next: int | None
    """BootNext."""
    order: tuple[int, ...]
    entries: tuple[Entry, ...]

    def entry(self, number: int) -> Entry | None:
        """The entry with this number; BootOrder may name some that do not exist."""
        return next((entry for entry in self.entries if entry.number == number), None)


def parse(text: str) -> Nvram:
    """Read what `efibootmgr -v` printed. Lines that are not understood are passed over."""
    words: dict[str, str] = {}
    entries = []
    for line in text.splitlines():
        if (found := _ENTRY.fullmatch(line)) is not None:
            number, star, label, path = found.groups()
            entries.append(_entry(int(number, 16), label, star == "*", path or ""))
        elif (word := re.fullmatch(r"(Boot\w+): *([0-9A-Fa-f,]*)", line)) is not None:
            words[word[1]] = word[2]
    return Nvram(
        current=_number(words.get("BootCurrent", "")),
        next=_number(words.get("BootNext", "")),
        order=tuple(int(n, 16) for n in words.get("BootOrder", "").split(",") if n),
        entries=tuple(entries),
    )


def _entry(number: int, label: str, active: bool, path: str) -> Entry:
    partuuid = loader = ""
    if (gpt := _GPT.search(path)) is not None:
        partuuid = gpt[1].lower()
    elif (mbr := _MBR.search(path)) is not None:
        partuuid = f"{int(mbr[2], 16):08x}-{int(mbr[1]):02x}"
    if partuuid and (file := _LOADER.search(path)) is not None:
        loader = file[1] if file[1] is not None else file[2]
    return Entry(number, label.rstrip(), active, partuuid, loader, _way(label, path, partuuid))


def _way(label: str, path: str, partuuid: str) -> Way:
    # The path of a USB stick's partition has both USB(...) and HD(...): where it leads decides.
    if _NETWORK.search(path):
        return "network"
    if _REMOVABLE.search(path):
        return "removable"
    if partuuid:
        return "file"
    if any(guid in path.lower() for guid in _SHELLS) or _SHELL_NAME.search(label):
        return "shell"
    # Firmware whose entries carry a path of its own make: their names are all there is.
    if _NETWORK_NAME.search(label):
        return "network"
    if _REMOVABLE_NAME.search(label):
        return "removable"
    return "tool" if "FvFile(" in path else "other"


def _number(text: str) -> int | None:
    return int(text, 16) if text else None
