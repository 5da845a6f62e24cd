# SPDX-License-Identifier: GPL-3.0-or-later
"""Damages a FAT as power cuts do: two files of a folder that nobody needs share their clusters."""

import struct
from pathlib import Path
from typing import Final

from core.run import run

LEFTOVER: Final = "dpsr/r-0000000000000000"
"""Of a run that was cut off."""
_NAMES: Final = (b"VMLINUZ    ", b"INITRD  IMG")


def leave_behind(image: Path, start: int, content: bytes) -> None:
    """Put a leftover rescue system on the FAT at byte `start` of `image`, both files in one."""
    where = f"{image}@@{start}"
    run("mmd", "-D", "s", "-i", where, "::dpsr", ok=(0, 1))
    run("mmd", "-i", where, f"::{LEFTOVER}")
    for name in ("vmlinuz", "initrd.img"):
        run("mcopy", "-i", where, "-", f"::{LEFTOVER}/{name}", given=content)
    with open(image, "r+b") as stream:
        stream.seek(start)
        head = stream.read(512)
        first, second = sorted(_entries(stream.read(64 << 20)))
        stream.seek(start + 512 + first)
        entry = stream.read(32)
        stream.seek(start + 512 + second + 20)
        stream.write(entry[20:22])
        stream.seek(start + 512 + second + 26)
        stream.write(entry[26:28])
    assert struct.unpack_from("<H", head, 11)[0] == 512


def _entries(data: bytes) -> list[int]:
    """Where the two short names begin; there is one rescue system more, or none."""
    places = [data.rfind(name) for name in _NAMES]
    assert -1 not in places
    return places
