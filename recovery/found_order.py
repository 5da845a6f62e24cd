# SPDX-License-Identifier: GPL-3.0-or-later
"""The firmware's boot order as it was before `dpsr switch dpsr`, kept so that it can be put back.

In the state block of the DPSR disk, where both sides find it, and on the primary, for orders that
are too long for that one sector.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from core.files import write_durably
from core.model.plain import Misfit, from_plain, to_plain
from core.model.state import State
from grub.state import pack
from grub.turn import as_text, from_text

PATH: Final = Path("/var/lib/dpsr/boot-order.json")
FORMAT: Final = "dpsr-boot-order"
VERSION: Final = 1
NO_ROOM: Final = "-"
"""In the state block: the order is too long for it."""
_SPARE: Final = 64
"""Bytes of the first sector that stay free: what the disk says later may be longer."""


@dataclass(frozen=True, slots=True)
class FoundOrder:
    """What was found."""

    control: str
    """Partition GUID of the DPSR disk's control partition."""
    order: tuple[int, ...]


def with_order(state: State, order: tuple[int, ...]) -> State:
    """The state with this order in it, or with the word that there is no room for it. Pure."""
    wanted = state.with_order(as_text(order) or NO_ROOM)
    try:
        room = len(pack(wanted)[:512].rstrip(b"#")) <= 512 - _SPARE
    except ValueError:
        room = False
    return wanted if room else state.with_order(NO_ROOM)


def keep(order: tuple[int, ...], control: str, path: Path = PATH) -> None:
    """Keep the order on this system. Raises OSError."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    content = {"format": FORMAT, "version": VERSION, "found": to_plain(FoundOrder(control, order))}
    write_durably(path, json.dumps(content).encode() + b"\n")


def read(state: State, control: str, path: Path = PATH) -> tuple[int, ...]:
    """The order again; empty: it was not switched, or it is not known here."""
    if state.order != NO_ROOM:
        return from_text(state.order)
    try:
        data = json.loads(path.read_bytes())
        if (data["format"], data["version"]) != (FORMAT, VERSION):
            return ()
        found = from_plain(FoundOrder, data["found"])
    except (OSError, ValueError, KeyError, TypeError, Misfit):
        return ()  # the entry of ours is placed after the primary's then, all else as it is
    return found.order if found.control == control else ()


def drop(path: Path = PATH) -> None:
    """Forget it: the order is back."""
    path.unlink(missing_ok=True)
