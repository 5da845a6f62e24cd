# SPDX-License-Identifier: GPL-3.0-or-later
"""How `dpsr switch` reads, for a technician and for programs. Pure."""

from typing import Any

from core.model.plain import to_plain
from grub.turn import Turn
from recovery.guard import Watch
from recovery.switch import TO, Standing


def done(wanted: Turn) -> str:
    """What was done, and what comes next."""
    if wanted.once and wanted.to == "dpsr":
        return (
            "The next start goes to the DPSR disk, the one after that to where it went before.\n"
            "It is a trial: what is done on the copy is forgotten by the next update, unless\n"
            "`dpsr switch dpsr` is run there.\n"
            "Next: reboot.\n"
        )
    if wanted.to == "dpsr":
        return (
            "From now on this machine starts from the DPSR disk. What is done there is kept.\n"
            "Next: reboot. `dpsr switch primary` goes back to the order before.\n"
        )
    if wanted.once:
        return "The next start goes to the primary.\n"
    return "From now on this machine starts by the order that it had before.\n"


def as_text(found: Standing) -> str:
    """Where it runs, where it starts next, and what is odd about it."""
    lines = [f"  runs from    {TO[found.here]}"]
    if found.next is not None:
        once = " (once only)" if found.once else ""
        lines.append(f"  starts next  {TO[found.next]}{once}")
    elif found.by == "bios" and found.here == "dpsr":
        lines.append(
            "  starts next  as the BIOS and the primary's own menu say; dpsr cannot see it here"
        )
    else:
        lines.append("  starts next  something else than these two disks")
    if found.order:
        lines.append(f"  boot order   {', '.join(found.order)}")
    if found.switched:
        lines.append("  switched     to the DPSR disk for good; `dpsr switch primary` goes back")
    if found.trial:
        lines.append("  trial        what is done on the copy is forgotten by the next update;")
        lines.append("               `dpsr switch dpsr` on the copy keeps it")
    if found.trouble:
        lines += ["", found.trouble]
    return "\n".join(lines) + "\n"


def guard(found: Watch) -> str:
    """What the guard does."""
    if not found.on:
        return (
            "The guard is off. `dpsr guard on` lets GRUB start the DPSR disk when this one fails.\n"
        )
    if found.over:
        return (
            "The guard HAS ACTED: this system failed too often, and the DPSR disk is started each\n"
            "time. Next: if this system is well, `dpsr guard reset`.\n"
        )
    left = "its counter cannot be read" if found.left is None else f"{found.left} left"
    return (
        f"The guard is on: after {found.tries} failed starts ({left}) the DPSR disk is started.\n"
    )


def as_data(found: Standing | Watch) -> dict[str, Any]:
    """The same for programs."""
    data: dict[str, Any] = to_plain(found)
    return data
