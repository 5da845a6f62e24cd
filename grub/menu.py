# SPDX-License-Identifier: GPL-3.0-or-later
"""The menu of the DPSR disk: one GRUB script for both firmwares and for every state. Pure.

Generation, time and slot are read from the state block when the machine starts, so that a backup
never has to rewrite the menu.
"""

import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from zlib import compress, crc32

from core.model.state import FORMAT

_TEMPLATES: Final = Path(__file__).with_name("templates")
THEMES: Final = "grub/dpsr"
"""Folder of the looks on the control partition."""
_MARK: Final = (0x1F, 0x5F, 0xA8)
"""Colour of the bar under the marked line, which is white: readable without the bar too."""
_MARGIN: Final = 10
"""Pixels of that bar left and right of the text."""
_LONGEST: Final = 40
"""Characters of a machine's name or a serial number that a line of the menu has room for."""


@dataclass(frozen=True, slots=True)
class Look:
    """What the screen says above the menu in one state of the disk."""

    name: str
    headline: str
    next_step: str
    colour: str


LOOKS: Final = (
    Look(
        "clean",
        "This disk holds a complete copy of the machine, ready to work.",
        "Start it when the machine's own disk does not work any more.",
        "#7fd48a",
    ),
    Look(
        "building",
        "There is NO COMPLETE COPY on this disk yet.",
        "Start the machine from its own disk and run there: dpsr prepare",
        "#ffb04a",
    ),
    Look(
        "repair",
        "An update of the copy was interrupted. The repair undoes it.",
        "Nothing is lost but that update; the copy starts by itself afterwards.",
        "#ffb04a",
    ),
    Look(
        "interrupted",
        "An update was interrupted: the copy CANNOT BE STARTED as it is.",
        "Start the machine from its own disk and run there: dpsr update",
        "#ffb04a",
    ),
    Look(
        "unreadable",
        "What this disk holds CANNOT BE READ.",
        "Start the machine from its own disk and run there: dpsr prepare",
        "#ffb04a",
    ),
)


@dataclass(frozen=True, slots=True)
class MenuFacts:
    """What people are told about the disk."""

    host: str
    """Name of the machine that it is a copy of."""
    serial: str
    """Serial number printed on the DPSR disk; its model where it has none."""
    guid: str
    """Of its partition table: the rescue system finds it by that."""


def render(facts: MenuFacts) -> dict[str, bytes]:
    """The files of the menu by their path on the control partition.

    `EFI/debian/grub.cfg` (where a signed GRUB looks) and `grub/grub.cfg` are the same script.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701 - no HTML; the filters escape as GRUB reads it
        keep_trailing_newline=True,
    )
    environment.filters |= {"quoted": quoted, "themed": themed}
    words = {"host": shown(facts.host), "serial": shown(facts.serial)}
    script = (
        environment.get_template("menu.cfg.j2")
        .render(words, format=FORMAT, guid=facts.guid)
        .encode()
    )
    theme = environment.get_template("theme.txt.j2")
    files = {"grub/grub.cfg": script, "EFI/debian/grub.cfg": script}
    for look in LOOKS:
        text = theme.render(
            words, headline=look.headline, next_step=look.next_step, colour=look.colour
        )
        files[f"{THEMES}/{look.name}.txt"] = text.encode()
    for side, width in (("w", _MARGIN), ("c", 1), ("e", _MARGIN)):
        files[f"{THEMES}/select_{side}.png"] = bar(width, _MARK)
    return files


def quoted(text: str) -> str:
    """`text` as one word of a GRUB script, whatever is in it."""
    return "'" + text.replace("'", "'\\''") + "'"


def themed(text: str) -> str:
    """`text` for between the double quotes of a GRUB theme, which knows no escapes but its own."""
    return text.replace("\\", "/").replace('"', "'")


def shown(text: str) -> str:
    """`text` as GRUB's font and a line of the menu can show it."""
    printable = re.sub(r"[^ -~]", "?", text.strip())
    return printable if len(printable) <= _LONGEST else printable[: _LONGEST - 2] + ".."


def bar(width: int, colour: tuple[int, int, int]) -> bytes:
    """A PNG of one colour, `width` pixels wide and one high, which GRUB stretches in height."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, 1, 8, 2, 0, 0, 0)  # 8 bits, RGB
    line = compress(b"\0" + bytes(colour) * width)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", line) + chunk(b"IEND", b"")
    )
