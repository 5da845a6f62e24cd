# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks at the machine for `dpsr switch --emit`, and writes nothing."""

import os
from datetime import UTC, datetime

from core import settings
from core.errors import BootOrderFailed, NoWayThere
from core.namespace import go_private
from grub.efibootmgr import BootManager, Efibootmgr
from grub.primary import entry_id, menu
from grub.turn import Turn
from recovery import emit, found_order
from recovery.sides import Sides, find_sides
from recovery.switch import BY_HAND, IN_MENU, refuse_incomplete, seen


def script(name: str, wanted: Turn, manager: BootManager | None = None) -> str:
    """The script. Raises what the command itself would before it writes."""
    go_private()
    sides = find_sides(settings.load(), name, as_seen=True)
    if wanted.to == "dpsr":
        refuse_incomplete(sides)
    if sides.firmware == "uefi":
        return _by_firmware(sides, wanted, manager or Efibootmgr())
    if sides.here == "dpsr":
        raise NoWayThere("On a machine with BIOS this can be done on the primary only.", BY_HAND)
    return emit.by_menu(_facts(sides), wanted, entry_id(sides.name), menu(sides.sets))


def _by_firmware(sides: Sides, wanted: Turn, manager: BootManager) -> str:
    try:
        nvram = seen(sides, manager.read())
    except BootOrderFailed as reason:
        raise NoWayThere(str(reason), IN_MENU) from None
    found = found_order.read(sides.state, sides.control.partuuid)
    return emit.by_firmware(_facts(sides), Turn(wanted.to, wanted.once, found), nvram, sides.wish)


def _facts(sides: Sides) -> emit.Facts:
    links = [link for link in sides.disk.links if "/by-id/" in link]
    disk = links[0] if links else sides.disk.path
    hides = sides.here == "primary" and settings.load().hide
    return emit.Facts(os.uname().nodename, disk, sides.control.number, datetime.now(UTC), hides)
