# SPDX-License-Identifier: GPL-3.0-or-later
"""The slots of a plan as the engine sees them, and the fix-ups' way into them.

Order is what keeps a slot from ever carrying an identity that is not its own, or one that it does
not deserve yet: ordinary blocks of all slots first, flushed, then the superblocks, read back.
"""

import os
from collections.abc import Iterable
from contextlib import closing

from builder.copying.direct import Reader, SlotWriter, buffer
from builder.fixup.fix import FixedSlot
from core.errors import CopyDiffers
from core.model.blockset import BlockSet
from core.model.copy import Fixups, Plan
from core.model.live import Source

Blocks = Iterable[tuple[int, bytes]]
"""`(offset, content)`, offset and length multiples of the disk's sector."""


def sources(plan: Plan) -> tuple[Source, ...]:
    """What `copy_live` copies: every volume that can be frozen (FAT cannot: `fix_up` makes it)."""
    return tuple(
        Source(
            name=plan.slot_of(volume).name,
            mountpoint=volume.mountpoint,
            device=volume.source,
            tracked=_number(volume.disk) if volume.disk else volume.dev,
            offset=volume.offset,
            size=volume.size,
            target=plan.slot_path(plan.slot_of(volume).number),
        )
        for volume in plan.volumes
        if volume.fstype != "vfat"
    )


def write_fixups(plan: Plan, fixed: tuple[FixedSlot, ...]) -> None:
    """Write the fix-ups of all slots, identities last, and read those back.

    Raises WriteFailed, CopyDiffers.
    """
    paths = {slot.name: plan.slot_path(slot.number) for slot in plan.slots}
    for each in fixed:
        _write(paths[each.name], each.data)
    for each in fixed:
        _write(paths[each.name], each.identity)
        _check(paths[each.name], each.identity)


def fixups(fixed: tuple[FixedSlot, ...]) -> tuple[Fixups, ...]:
    """The fix-ups as the manifest lists them."""
    return tuple(
        Fixups(
            each.name,
            tuple(
                BlockSet.of(
                    (offset, offset + len(content))
                    for offset, content in (*each.data, *each.identity)
                )
            ),
            each.edited,
        )
        for each in fixed
    )


def _number(device: str) -> tuple[int, int]:
    number = os.stat(device).st_rdev
    return os.major(number), os.minor(number)


def _write(device: str, blocks: Blocks) -> None:
    with closing(SlotWriter(device)) as writer:
        for offset, content in blocks:
            view = buffer(len(content))  # O_DIRECT wants memory on a page boundary
            view[:] = content
            writer.write(offset, view)
        writer.flush()


def _check(device: str, blocks: Blocks) -> None:
    with closing(Reader(device)) as reader:
        for offset, content in blocks:
            view = buffer(len(content))
            reader.read_into(offset, view)
            if view != content:
                raise CopyDiffers(f"{device} does not read back what was written at byte {offset}.")
