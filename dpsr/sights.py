# SPDX-License-Identifier: GPL-3.0-or-later
"""How `dpsr hide` and `dpsr reveal` read, for people and for programs. Pure."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from recovery.sight import Seen, Sight

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_MOST: Final = 30 * 86400


def seconds(text: str) -> float | None:
    """`90s`, `10m`, `2h`, `1d` in seconds; a number alone is seconds. None: it is none of these."""
    found = re.fullmatch(r"(\d{1,7})([smhd]?)", text.strip())
    if found is None:
        return None
    number = int(found[1]) * _UNITS[found[2] or "s"]
    return float(number) if 0 < number <= _MOST else None


def hidden(found: Sequence["Sight"]) -> str:
    """A sentence or two for each disk."""
    return "".join(f"{_hidden(each)}\n" for each in found)


def as_data(found: Sequence["Sight"]) -> list[dict[str, Any]]:
    """The same for programs."""
    return [
        {
            "name": each.known.name,
            "hidden": each.away or each.way is not None,
            "hidden_how": _how(each),
            "hidden_why": (each.way.why or None) if each.way else None,
        }
        for each in found
    ]


def revealed(found: "Seen") -> str:
    """Where it is, how long, and how it is hidden sooner."""
    until = found.until.astimezone()
    parts = "".join(f"  {part.path}  {part.name}\n" for part in found.disk.partitions)
    return (
        f"The DPSR disk is {found.disk.path} until {until:%Y-%m-%d %H:%M:%S}, read-only:\n{parts}"
        "Then it is hidden again, unless something of it is mounted. `dpsr hide` does it sooner.\n"
    )


def seen_as_data(found: "Seen") -> dict[str, Any]:
    """The same for programs."""
    return {
        "path": found.disk.path,
        "revealed_until": found.until.isoformat(timespec="seconds"),
        "partitions": [{"path": each.path, "name": each.name} for each in found.disk.partitions],
    }


def _how(each: "Sight") -> str | None:
    if each.way is not None and each.way.kind == "none":
        return "ignored"
    return "detached" if each.away else None


def _hidden(each: "Sight") -> str:
    called = f"The DPSR disk ({each.known.model}, {each.known.serial or each.known.wwn})"
    if each.way is None:
        return f"{called} is hidden already." if each.away else f"{called} is not there."
    if each.way.kind == "none":
        return f"{called} is read-only and ignored; it is not detached, since {each.way.why}."
    return f"{called} is hidden: this system does not see it any more."
