# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings damaged blocks of a slot back from the primary, where they are unchanged there."""

from collections.abc import Mapping
from contextlib import closing

from builder.copying.direct import Reader, SlotWriter, buffer
from builder.digests.blocks import BLOCK, digest
from core.errors import ReadFailed, WriteFailed


def mend(source: str, target: str, size: int, wrong: Mapping[int, int]) -> set[int]:
    """Write the blocks `wrong`, with their digests, of the slot `target` anew; those that were.

    Each is read from the volume `source`, and written only when its digest is the recorded one. So
    what is written is what the generation on the disk says of that block, no more and no less:
    there is nothing to take back, and cut off anywhere, or done again, it does no harm. That is why
    no undo log goes before it, and why an identity is never written: no block of the primary has
    its digest. Raises ReadFailed, WriteFailed when a device cannot be opened.
    """
    done = set()
    room = buffer(BLOCK)
    with (
        closing(Reader(source)) as ours,
        closing(Reader(target)) as theirs,
        closing(SlotWriter(target)) as writer,
    ):
        for block, wanted in sorted(wrong.items()):
            view = room[: min(BLOCK, size - block * BLOCK)]
            if _holds(ours, block, view, wanted):
                try:
                    writer.write(block * BLOCK, view)
                    writer.flush()
                except WriteFailed:
                    continue  # the disk is failing there: it is said to be damaged still
                if _holds(theirs, block, view, wanted):
                    done.add(block)
    return done


def _holds(reader: Reader, block: int, view: memoryview, wanted: int) -> bool:
    try:
        reader.read_into(block * BLOCK, view)
    except ReadFailed:
        return False
    return digest(view) == wanted
