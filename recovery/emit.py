# SPDX-License-Identifier: GPL-3.0-or-later
"""`dpsr switch --emit`: a shell script that does by hand what the command would do. Pure."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from grub.nvram import Nvram
from grub.order import LABEL, LOADER, Wish, of_primary, place
from grub.primary import SWITCHED
from grub.turn import Turn, as_text


@dataclass(frozen=True, slots=True)
class Facts:
    """What the script is about."""

    host: str
    disk: str
    """A name of the DPSR disk that stays good, else its path."""
    part: int
    """Number of its control partition."""
    when: datetime
    hides: bool = False
    """The DPSR disk is hidden from the system: it has to be brought back first."""


def comment(text: str) -> str:
    """`text` as one line of a comment, whatever is in it."""
    return "# " + "".join(char if char.isprintable() else "?" for char in text)


def by_firmware(facts: Facts, wanted: Turn, nvram: Nvram, wish: Wish) -> str:
    """The script for a machine with UEFI."""
    known = [entry for n in nvram.order if (entry := nvram.entry(n)) is not None]
    ours = {e.number for e in nvram.entries if e.label == LABEL and e.partuuid == wish.control}
    others = tuple(entry.number for entry in known if entry.number not in ours)
    lines = [
        *_head(facts, wanted),
        "# The boot entries as they were, in their order:",
        *(comment(f"  Boot{entry.number:04X} {entry.label}") for entry in known),
        comment(f"The order again as it was: efibootmgr -o {as_text(e.number for e in known)}"),
        "",
        *(["# The disk is hidden from this system.", "dpsr reveal", ""] if facts.hides else []),
        "# 1. The entry of the DPSR disk: its number, made anew where there is none.",
        "ours() {",
        f"\tefibootmgr -v | grep -i -F {shlex.quote(wish.control)} |",
        f"\t\tsed -n 's/^Boot\\([0-9A-Fa-f]\\{{4\\}}\\)[* ] *{LABEL}.*/\\1/p' | head -n 1",
        "}",
        "entry=$(ours)",
        'if [ -z "$entry" ]; then',
        f"\tefibootmgr -C -d {shlex.quote(facts.disk)} -p {facts.part} \\",
        f"\t\t-L {shlex.quote(LABEL)} -l {shlex.quote(LOADER)}",
        "\tentry=$(ours)",
        "fi",
        '[ -n "$entry" ] || { echo "The firmware did not keep the entry." >&2; exit 1; }',
        "",
    ]
    if wanted.once:
        number = "$entry" if wanted.to == "dpsr" else _first(nvram, wish)
        lines += ["# 2. The next start alone goes there.", f'efibootmgr -n "{number}"']
    else:
        lines += ["# 2. The order.", f'efibootmgr -o "{_order(wanted, nvram, wish, others)}"']
    lines += [
        "",
        "# 3. Read it back: some firmwares forget or reorder. Look once more after the next start.",
        "efibootmgr",
    ]
    return "\n".join(lines) + "\n"


def by_menu(facts: Facts, wanted: Turn, entry: str, menu: str) -> str:
    """The script for a machine with BIOS: GRUB's menu on the primary chooses."""
    switched = "/etc/default/grub.d/zz-dpsr-switch.cfg"
    lines = list(_head(facts, wanted))
    if wanted.to == "dpsr":
        lines += [
            "# 1. The entry in the primary's own menu (/etc/grub.d/42_dpsr prints this file).",
            "mkdir -p /etc/dpsr",
            "cat > /etc/dpsr/menu.cfg <<'END_OF_MENU'",
            *menu.splitlines(),
            "END_OF_MENU",
            "",
        ]
    if wanted.once:
        value = entry if wanted.to == "dpsr" else "0"
        lines += [
            *(["update-grub", ""] if wanted.to == "dpsr" else []),
            "# 2. GRUB starts it once, and forgets it.",
            f"grub-editenv /boot/grub/grubenv set next_entry={shlex.quote(value)}",
            "grub-editenv /boot/grub/grubenv list",
        ]
    elif wanted.to == "dpsr":
        lines += [
            "# 2. The default of that menu.",
            f"cat > {switched} <<'END_OF_DEFAULT'",
            *SWITCHED.format(id=entry).splitlines(),
            "END_OF_DEFAULT",
            "update-grub",
            f"grep -F 'set default=\"{entry}\"' /boot/grub/grub.cfg",
        ]
    else:
        lines += [
            "# The default of the primary's own menu as it was.",
            f"rm -f {switched}",
            "grub-editenv /boot/grub/grubenv unset next_entry",
            "update-grub",
        ]
    return "\n".join(lines) + "\n"


def _head(facts: Facts, wanted: Turn) -> Sequence[str]:
    to = "the DPSR disk" if wanted.to == "dpsr" else "the primary"
    how = "once" if wanted.once else "from now on"
    return [
        "#!/bin/sh",
        comment(
            f"Lets {facts.host} start {to} {how}. Made by dpsr at {facts.when:%Y-%m-%d %H:%M}."
        ),
        "# To be run as root, on that machine. dpsr is not told of it: an update after a start",
        "# of the copy asks whether work that was done there may be lost.",
        "set -eu",
        "",
    ]


def _order(wanted: Turn, nvram: Nvram, wish: Wish, others: tuple[int, ...]) -> str:
    """BootOrder, with `$entry` for ours."""
    if wanted.to == "dpsr":
        return ",".join(("$entry", *(f"{n:04X}" for n in others)))
    found = tuple(n for n in wanted.found if n in others) or others
    rest = tuple(n for n in others if n not in found)
    free = next(n for n in range(0x10000) if nvram.entry(n) is None)
    then = Nvram(nvram.current, None, (*found, *rest), nvram.entries)
    return ",".join("$entry" if n == free else f"{n:04X}" for n in place(then, free, wish))


def _first(nvram: Nvram, wish: Wish) -> str:
    found = of_primary(nvram, wish)
    return f"{found[0].number:04X}" if found else "NUMBER_OF_THE_PRIMARY"
