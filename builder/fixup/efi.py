# SPDX-License-Identifier: GPL-3.0-or-later
"""EFI programs of the copy that have a name of the primary built in.

`grub-install` builds `search.fs_uuid UUID` into grubx64.efi; a unified kernel image has a command
line. UUIDs all have one length, so the new one takes the old one's place, unless the program is
signed.
"""

import mmap
import os
import struct
from pathlib import Path
from typing import Final

from builder.fixup.names import Names

_SECURITY: Final = 4
"""Index of the certificate table among a PE image's data directories."""


def old_name(path: Path, names: Names) -> str | None:
    """The first old UUID that is in the program, None when there is none."""
    for old, _ in names.needles():
        if _contains(path, old):
            return old.decode("ascii").replace("\0", "")
    return None


def rename(path: Path, names: Names) -> bool:
    """Put the new UUIDs in the place of the old; False when there was none or it is signed."""
    changed = False
    for old, new in names.needles():
        while _contains(path, old) and not is_signed(path):
            with path.open("r+b") as stream, mmap.mmap(stream.fileno(), 0) as view:
                at = view.find(old)
                view[at : at + len(old)] = new
            changed = True
    return changed


def is_signed(path: Path) -> bool:
    """Whether the PE image has a signature; also for what is no PE image, which is left alone."""
    with path.open("rb") as stream:
        head = stream.read(4096)
    try:
        (at,) = struct.unpack_from("<I", head, 0x3C)
        if head[:2] != b"MZ" or head[at : at + 4] != b"PE\0\0":
            return True
        (magic,) = struct.unpack_from("<H", head, at + 24)
        directories = at + 24 + (112 if magic == 0x20B else 96)
        _where, size = struct.unpack_from("<II", head, directories + 8 * _SECURITY)
    except struct.error:
        return True
    return bool(size)


def _contains(path: Path, word: bytes) -> bool:
    if os.path.getsize(path) == 0:
        return False
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as view:
        return view.find(word) >= 0
