# SPDX-License-Identifier: GPL-3.0-or-later
"""The persistent exception store of dm-snapshot: which chunks of an overlay differ. Pure.

Source: the kernel's drivers/md/dm-snap-persistent.c. Chunk 0 is the header. Then come areas, each
one chunk of 16-byte exceptions (old chunk, new chunk; little endian) followed by as many chunks of
data as an area has exceptions. A new chunk of 0 ends the list: chunk 0 is never data.
"""

import struct
from collections.abc import Callable, Iterator
from typing import Final

from core.errors import FixupFailed

MAGIC: Final = b"SnAp"
VERSION: Final = 1
_EXCEPTION: Final = struct.Struct("<QQ")

Read = Callable[[int, int], bytes]
"""Takes offset and length."""


def changed(read: Read, size: int) -> Iterator[tuple[int, int, int]]:
    """Yield `(offset on the overlay, offset in the store, length)` of each chunk that was written.

    `size` is that of the store. Raises FixupFailed when the store is invalid (it was full) or
    damaged. Memory: one chunk.
    """
    magic, valid, version, sectors = struct.unpack("<4s3I", read(0, 16))
    if magic != MAGIC or version != VERSION or sectors == 0:
        raise FixupFailed("The overlay's store is none that this version can read.")
    if not valid:
        raise FixupFailed("The overlay ran full, so that the fix-ups in it are not complete.")
    chunk = sectors * 512
    per_area = chunk // _EXCEPTION.size
    area = 1
    while (area + 1) * chunk <= size:
        for old, new in _EXCEPTION.iter_unpack(read(area * chunk, chunk)):
            if new == 0:
                return
            if (new + 1) * chunk > size:
                raise FixupFailed("The overlay's store is damaged.")
            yield old * chunk, new * chunk, chunk
        area += per_area + 1
