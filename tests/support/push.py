# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts this clone's program into a guest, over whatever package is installed there."""

import io
import tarfile
from pathlib import Path
from typing import Final

from images.guest import Guest

ROOT: Final = Path(__file__).parents[2]
ROOMS: Final = ("core", "grub", "images", "builder", "recovery", "dpsr")
FOLDER: Final = "/usr/lib/dpsr"


def push_rooms(guest: Guest) -> None:
    """Copy the rooms to `/usr/lib/dpsr`, and the command to `/usr/sbin/dpsr`."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for room in ROOMS:
            tar.add(ROOT / room, room, filter=_source_only)
    guest.put("/run/dpsr-rooms.tar.gz", packed.getvalue())
    guest.sh(
        f"mkdir -p {FOLDER}; tar -C {FOLDER} -xzf /run/dpsr-rooms.tar.gz; rm /run/dpsr-rooms.tar.gz"
    )
    command = ROOT / "packaging" / "dpsr"
    guest.put("/usr/sbin/dpsr", command.read_bytes(), mode=0o755)


def _source_only(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    return None if "__pycache__" in entry.name else entry
