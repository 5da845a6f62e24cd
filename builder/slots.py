# SPDX-License-Identifier: GPL-3.0-or-later
"""The slots of a plan as the engine sees them, and the fix-ups' way into them.

Order is what keeps a slot from ever carrying an identity that is not its own, or one that it does
not deserve yet: ordinary blocks of all slots first, flushed, then the superblocks, read back.
"""

import os
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, closing
from typing import Final

from builder.copying.direct import Reader, SlotWriter, Writer, buffer, write_blocks
from builder.digests.keeper import Keeper, Wanted
from builder.fixup.fix import FixedSlot
from builder.plan.shape import Shape
from builder.still.volume import identity_of, read_shape
from builder.vault.undoformat import LogSlot
from core.errors import CopyDiffers, ShapeChanged
from core.model.blockset import EMPTY, BlockSet
from core.model.copy import Fixups, Plan
from core.model.live import Earlier, Source
from core.run import run

Blocks = Iterable[tuple[int, bytes]]
"""`(offset, content)`, offset and length multiples of the disk's sector."""
Identities = dict[str, tuple[tuple[int, bytes], ...]]
"""By slot: blocks that are written last."""

NOTHING: Final[Mapping[str, Earlier]] = {}

_LONG: Final = 600.0
_FIRST: Final = 4096
"""Bytes at the beginning of a FAT slot that make it one."""


def sources(
    plan: Plan, digests: Keeper | None = None, earlier: Mapping[str, Earlier] = NOTHING
) -> tuple[Source, ...]:
    """What `copy_live` copies: every volume that can be frozen (FAT cannot: `fix_up` makes it).

    `digests` is told what is compared. `earlier` by slot: what is known of it, for an update.
    """
    return tuple(
        Source(
            name=slot.name,
            mountpoint=volume.mountpoint,
            device=volume.source,
            tracked=_number(volume.disk) if volume.disk else volume.dev,
            offset=volume.offset,
            size=volume.size,
            target=plan.slot_path(slot.number),
            fstype=volume.fstype,
            earlier=earlier.get(slot.name),
            compared=digests.equal(slot.name) if digests else None,
        )
        for volume, slot in plan.copied
        if volume.fstype != "vfat"
    )


def need_room(plan: Plan) -> None:
    """Refuse a file system that has outgrown its slot. Raises ShapeChanged, ReadFailed."""
    for volume, slot in plan.copied:
        if volume.fstype != "vfat":
            with closing(Reader(volume.source)) as reader:
                size = read_shape(reader, volume.source).size
            if size > slot.size:
                grown = Shape(grown=((volume.mountpoint, size, slot.size),))
                raise ShapeChanged(f"{' '.join(grown.sentences())} Nothing was written.")


def sync_fat(plan: Plan) -> None:
    """Bring the files of FAT volumes to their disk: those are not frozen. Raises CommandFailed."""
    for volume, _ in plan.copied:
        if volume.fstype == "vfat":
            run("sync", "--file-system", volume.mountpoint, timeout=_LONG)


def read_fat_anew(plan: Plan, digests: Keeper) -> None:
    """Have digests made of all of the FAT slots: what is damaged there in free space stays so.

    Digests of a FAT slot speak of all of it, and a run writes only its files.
    """
    for volume, slot in plan.copied:
        if volume.fstype == "vfat":
            digests.forget(slot.name)


def fat_identities(plan: Plan) -> Identities:
    """What makes each FAT slot one: it stays, and is written last, as a superblock is."""
    found: Identities = {}
    for _, slot in plan.copied:
        if slot.fstype == "vfat":
            with closing(Reader(plan.slot_path(slot.number))) as reader:
                view = buffer(_FIRST)
                reader.read_into(0, view)
            found[slot.name] = ((0, bytes(view)),)
    return found


def identity_ranges(plan: Plan) -> dict[str, BlockSet]:
    """By slot: the blocks by which its file system is found."""
    found = {}
    for volume, slot in plan.copied:
        if volume.fstype == "vfat":
            found[slot.name] = BlockSet.of([(0, _FIRST)])
        else:
            with closing(Reader(volume.source)) as reader:
                shape = read_shape(reader, volume.source)
            found[slot.name] = identity_of(shape, volume.size)
    return found


def log_slots(plan: Plan) -> tuple[LogSlot, ...]:
    """The slots that are going to be written, as an undo log names them."""
    return tuple(LogSlot(each.name, each.number, each.start, each.size) for _, each in plan.copied)


def direct_writers(paths: Mapping[str, str], stack: ExitStack) -> dict[str, Writer]:
    """Writers with no undo log before them, by name of the slot; `stack` closes them."""
    return {name: stack.enter_context(closing(SlotWriter(path))) for name, path in paths.items()}


def paths_of(plan: Plan) -> dict[str, str]:
    """The device of each slot that is written to."""
    return {slot.name: plan.slot_path(slot.number) for _, slot in plan.copied}


def write_fixups(
    fixed: tuple[FixedSlot, ...], writers: Mapping[str, Writer], paths: Mapping[str, str]
) -> None:
    """Write the fix-ups of all slots, identities last, and read those back.

    `paths`: the slots' devices. Raises WriteFailed, CopyDiffers.
    """
    for each in fixed:
        write_blocks(writers[each.name], each.data)
    for each in fixed:
        write_blocks(writers[each.name], each.identity)
    for each in fixed:
        _check(paths[each.name], each.identity)


def fixups(fixed: tuple[FixedSlot, ...], swap: Mapping[str, BlockSet]) -> tuple[Fixups, ...]:
    """What differs on purpose, for the manifest; `swap`: swap files, which are not copied."""
    return tuple(
        Fixups(each.name, tuple(written_by(each).union(swap.get(each.name, EMPTY))), each.edited)
        for each in fixed
    )


def wanted(
    plan: Plan, used: Mapping[str, BlockSet], fixed: tuple[FixedSlot, ...]
) -> dict[str, Wanted]:
    """What the digests of a new generation cover of the slots that were copied.

    Of FAT all: its own files are few, and what is free of it nobody else writes.
    """
    sizes = {slot.name: slot.size for _, slot in plan.copied}
    own = {each.name: written_by(each).union(each.alike) for each in fixed}
    return {
        name: Wanted(used[name], own.get(name, EMPTY)) if name in used
        else Wanted(EMPTY, BlockSet.of([(0, size)]))
        for name, size in sizes.items()
    }  # fmt: skip


def ranges_of(blocks: Blocks) -> BlockSet:
    """Where they lie."""
    return BlockSet.of((offset, offset + len(content)) for offset, content in blocks)


def written_by(each: FixedSlot) -> BlockSet:
    """All that a fix-up writes to its slot."""
    return ranges_of((*each.data, *each.identity))


def _number(device: str) -> tuple[int, int]:
    number = os.stat(device).st_rdev
    return os.major(number), os.minor(number)


def _check(device: str, blocks: Blocks) -> None:
    with closing(Reader(device)) as reader:
        for offset, content in blocks:
            view = buffer(len(content))
            reader.read_into(offset, view)
            if view != content:
                raise CopyDiffers(f"{device} does not read back what was written at byte {offset}.")
