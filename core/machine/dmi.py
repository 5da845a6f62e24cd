# SPDX-License-Identifier: GPL-3.0-or-later
"""What the firmware says about the machine: who made it, which model, which serial number."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

FOLDER: Final = Path("/sys/class/dmi/id")
_EMPTY: Final = frozenset(
    {
        "", "0", "none", "n/a", "default string", "not specified", "not applicable", "unknown",
        "to be filled by o.e.m.", "to be filled by oem", "system manufacturer", "o.e.m.",
        "system product name", "system serial number", "chassis serial number", "oem",
        "0123456789", "123456789", "system version", "invalid",
    }
)  # fmt: skip
"""What makers leave in these fields when they fill in nothing."""


@dataclass(frozen=True, slots=True)
class Dmi:
    """One line each; empty when it is not known."""

    maker: str = ""
    model: str = ""
    serial: str = ""
    board_maker: str = ""
    firmware_maker: str = ""


def read(folder: Path = FOLDER) -> Dmi:
    """Read it; the serial number is for root only."""
    return Dmi(
        maker=_line(folder / "sys_vendor"),
        model=_line(folder / "product_name"),
        serial=_line(folder / "product_serial"),
        board_maker=_line(folder / "board_vendor"),
        firmware_maker=_line(folder / "bios_vendor"),
    )


def _line(path: Path) -> str:
    try:
        text = " ".join(path.read_text("utf-8", "replace").split())
    except OSError:
        return ""
    return "" if text.lower() in _EMPTY else text
