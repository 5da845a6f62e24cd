# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps systemd of a copy from mounting the control partition by itself.

systemd-gpt-auto-generator mounts the ESP of the disk that it was started from at /efi, or at an
empty /boot, and for an ESP it does not heed the GPT's attribute 63 (seen with systemd 252 and 257).
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from builder.fixup.inside import inside
from core.machine.escapes import from_octal

_UNITS: Final = "etc/systemd/system"
_MASK: Final = "/dev/null"


def mask(root: Path) -> Iterator[str]:
    """Mask the units of /efi and /boot in the copy mounted at `root`; yields what was made.

    What fstab mounts there, and units that are there already, stay.
    """
    folder = inside(root, _UNITS)
    if folder is None:
        return
    fstab = inside(root, "etc/fstab")
    taken = _mountpoints(fstab.read_text("utf-8", "surrogateescape")) if fstab else frozenset()
    for place in ("efi", "boot"):
        if f"/{place}" in taken:
            continue
        for kind in ("mount", "automount"):
            path = folder / f"{place}.{kind}"
            if not os.path.lexists(path):
                path.symlink_to(_MASK)
                yield f"/{path.relative_to(root)}"


def _mountpoints(text: str) -> frozenset[str]:
    lines = (line.split() for line in text.splitlines())
    return frozenset(
        from_octal(words[1]).rstrip("/")
        for words in lines
        if len(words) > 1 and not words[0].startswith("#")
    )
