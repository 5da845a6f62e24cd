# SPDX-License-Identifier: GPL-3.0-or-later
"""debconf's answers in the copy: a GRUB upgrade there must not touch the primary. Pure.

/var/cache/debconf/config.dat is a list of stanzas (`Name:`, `Template:`, `Value:`, …) parted by
empty lines; all but the ones named here are kept as they are, byte for byte.
"""

import re
from collections.abc import Mapping
from typing import Final

ANSWERS: Final[Mapping[str, str]] = {
    # grub-pc's postinst runs grub-install on these disks: none, and it is content with none
    "grub-pc/install_devices": "",
    "grub-pc/install_devices_disks_changed": "",
    "grub-pc/install_devices_empty": "true",
    # grub-efi's postinst then calls grub-install --no-nvram: the "debian" entry is the primary's
    "grub2/update_nvram": "false",
}

OWNERS: Final[Mapping[str, tuple[str, ...]]] = {
    "grub-pc": (
        "grub-pc/install_devices", "grub-pc/install_devices_disks_changed",
        "grub-pc/install_devices_empty",
    ),
    "grub-efi-amd64": ("grub2/update_nvram",),
}  # fmt: skip
"""Which installed package asks which questions."""


def fix_answers(text: str, installed: frozenset[str]) -> str:
    """config.dat with GRUB's answers for the copy.

    `installed`: those of OWNERS that are; questions that were never asked are answered too.
    """
    stanzas = re.split(r"\n{2,}", text.strip("\n")) if text.strip() else []
    known = {_name(stanza) for stanza in stanzas}
    fixed = [_answered(stanza) for stanza in stanzas]
    for owner in sorted(installed):
        fixed += [_stanza(name, owner) for name in OWNERS.get(owner, ()) if name not in known]
    if fixed == stanzas:
        return text
    return "\n\n".join(sorted(fixed, key=_name)) + "\n\n"


def _name(stanza: str) -> str:
    found = re.search(r"^Name: (.*)$", stanza, re.MULTILINE)
    return found[1].strip() if found else ""


def _answered(stanza: str) -> str:
    value = ANSWERS.get(_name(stanza))
    if value is None:
        return stanza
    lines = []
    for line in stanza.split("\n"):
        if line.startswith("Variables:"):
            break  # always the last field: the choices of the last time, the primary's disks
        if not line.startswith(("Value:", "Flags:")):
            lines.append(line)
    at = 1 + max((n for n, line in enumerate(lines) if line.startswith("Template:")), default=0)
    lines.insert(at, f"Value: {value}".rstrip() if value else "Value: ")
    return "\n".join((*lines, "Flags: seen"))


def _stanza(name: str, owner: str) -> str:
    value = ANSWERS[name]
    return f"Name: {name}\nTemplate: {name}\nValue: {value}\nOwners: {owner}\nFlags: seen"
