# SPDX-License-Identifier: GPL-3.0-or-later
"""Which key opens the firmware's boot menu, by who made the machine. Pure.

From the makers' own manuals; a machine may differ, so the card also says what the screen may show.
"""

from typing import Final

from core.machine.dmi import Dmi

_KEYS: Final[tuple[tuple[str, str], ...]] = (
    ("hewlett packard enterprise", "F11"), ("hpe", "F11"), ("proliant", "F11"),
    ("hewlett-packard", "F9"), ("hp", "F9"),
    ("dell", "F12"), ("lenovo", "F12"), ("ibm", "F12"), ("fujitsu", "F12"), ("acer", "F12"),
    ("toshiba", "F12"), ("dynabook", "F12"), ("gigabyte", "F12"), ("framework", "F12"),
    ("innotek", "F12"), ("virtualbox", "F12"), ("xen", "F12"),
    ("supermicro", "F11"), ("micro-star", "F11"), ("msi", "F11"), ("asrock", "F11"),
    ("inspur", "F11"), ("quanta", "F11"), ("huawei", "F11"), ("zotac", "F11"), ("tyan", "F11"),
    ("asustek", "F8"), ("asus", "F8"),
    ("intel", "F10"), ("samsung", "F10"), ("medion", "F10"), ("pc engines", "F10"),
    ("biostar", "F9"), ("cisco", "F6"), ("tuxedo", "F7"), ("system76", "F7"), ("shuttle", "F7"),
    ("qemu", "Esc"), ("bochs", "Esc"), ("seabios", "Esc"), ("edk ii", "Esc"), ("vmware", "Esc"),
    ("purism", "Esc"), ("coreboot", "Esc"), ("google", "Esc"),
    ("apple", "Option (Alt)"), ("microsoft", "Volume down"),
)  # fmt: skip
"""Words of the maker's name, small letters; the first that fits counts."""


def boot_key(dmi: Dmi) -> str:
    """The key; empty when nothing is known about such a machine."""
    said = (dmi.maker, dmi.model, dmi.board_maker, dmi.firmware_maker)
    for name in said:
        words = f" {name.lower()} ".replace(",", " ").replace(".", " ")
        for maker, key in _KEYS:
            if f" {maker} " in words or (len(maker) > 4 and maker in words):
                return key
    return ""
