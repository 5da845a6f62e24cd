# SPDX-License-Identifier: GPL-3.0-or-later
"""Gives the copy its own identity: works in overlays, returns the blocks that are to be written.

All volumes are mounted below one another, as on the real system, so that what is edited is found
where the running copy finds it. Nothing is mounted where others see it.
"""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from builder.copying.direct import Writer, write_blocks
from builder.fixup import ext4, fat, marker, masks, uuids
from builder.fixup.assemble import assembled
from builder.fixup.inside import inside
from builder.fixup.names import Names
from builder.fixup.overlay import ROOM, Overlay, clean_leftovers, explained, need_overlays, overlay
from builder.fixup.tree import Edited, fix_tree
from core import points
from core.errors import FixupFailed
from core.model.blockset import EMPTY, BlockSet
from core.model.copy import Plan, Slot, SwapFile, Volume
from core.run import need, run
from core.screen import Screen

Blocks = tuple[tuple[int, bytes], ...]
NO_WRITERS: Final[Mapping[str, Writer]] = {}


@dataclass(frozen=True, slots=True)
class FixedSlot:
    """What is to be written to one slot: `(offset, content)`, sorted, in multiples of a sector."""

    name: str
    data: Blocks
    """Before the identity."""
    identity: Blocks
    """Superblocks: last, when all else is on disk. Empty for FAT, which always had its own."""
    edited: tuple[str, ...]
    """The files that differ from the primary's."""
    alike: BlockSet = EMPTY
    """What the fix-ups want there, and the slot has already."""


def need_fixups() -> None:
    """Refuse now what would fail later, when the disk is written already.

    Raises ProgramMissing, KernelFeatureMissing, Refused.
    """
    need("tune2fs", "dumpe2fs", "e2fsck", "mkfs.fat", "mkswap", "depmod", "mount", "umount")
    need_overlays()


def fix_up(
    plan: Plan,
    identities: Mapping[str, Blocks],
    screen: Screen,
    writers: Mapping[str, Writer] = NO_WRITERS,
) -> tuple[FixedSlot, ...]:
    """Prepare the fix-ups of the slot of every volume that is copied.

    To be called in a private mount namespace; the slots hold the volumes as they were at one
    instant, but for `identities`, which came out of the volumes. FAT slots keep their own; one
    that has none yet is made and filled on the way. `writers` by slot: what is too much for one
    overlay is written to a FAT slot on the way. Raises FixupFailed, OldIdentityRemains, and what
    the writers do.
    """
    clean_leftovers()
    slots = [slot for _, slot in plan.copied]
    names = Names(plan.pairs, plan.left_out)
    with ExitStack() as stack:
        layers = {}
        for volume, slot in plan.copied:
            device = plan.slot_path(slot.number)
            if slot.fstype == "vfat":
                known = identities.get(slot.name, ())
                layer = _with_files(volume, slot, device, known, writers.get(slot.name), stack)
            else:
                layer = stack.enter_context(overlay(device, slot.name))
                with explained(layer):
                    ext4.write_blocks(layer.path, identities[slot.name])
                    _identify(layer, slot)
            layers[slot.name] = layer
        points.reach("overlaid")
        edited = Edited((), ())
        if "/" in {slot.mountpoint for slot in slots}:
            places = [(slot.mountpoint, slot.fstype, layers[slot.name].path) for slot in slots]
            with explained(*layers.values()):
                edited = _edit(plan, names, places)
        points.reach("edited")
        for note in edited.notes:
            screen.warn(note)
        fixed = tuple(
            _fixed(
                slot,
                layers[slot.name],
                identities.get(slot.name, ()),
                _files_of(slot, slots, edited),
            )
            for slot in slots
        )
    total = sum(len(content) for each in fixed for _, content in (*each.data, *each.identity))
    screen.note(f"{len(edited.files)} files changed, {total >> 10} KiB to write")
    return fixed


def _with_files(
    volume: Volume, slot: Slot, device: str, known: Blocks, writer: Writer | None, stack: ExitStack
) -> Overlay:
    """An overlay on a FAT slot in which the volume's files are; `stack` removes it.

    `known`: what makes the slot one. What does not fit into one overlay goes to the slot before,
    by `writer`, but for these blocks: until they are written, at the end, the slot is none.
    """
    source = Path(volume.mountpoint)
    if not known:
        with explained():
            fat.fill(device, "fat", slot.identity, source, volume.options)
        return stack.enter_context(overlay(device, slot.name))
    most = ROOM // 2 if writer else sys.maxsize
    refresh = fat.Refresh(source, volume.options, most)
    while True:
        with ExitStack() as own:
            layer = own.enter_context(overlay(device, slot.name))
            with explained(layer):
                ext4.write_blocks(layer.path, known)
                complete = refresh.go_on(layer.path, "fat")
            if complete or writer is None:
                stack.enter_context(own.pop_all())
                return layer
            lot = _fixed(slot, layer, known, ())
        write_blocks(writer, lot.data)
        known = lot.identity or known


def _edit(plan: Plan, names: Names, places: list[tuple[str, str, str]]) -> Edited:
    with assembled(places) as (root, scratch):
        said = marker.dump(plan.disk_guid, plan.pairs)
        edited = fix_tree(root, names, plan.drivers, scratch, said)
        edited = replace(edited, files=(*edited.files, *masks.mask(root)))
        here = {mountpoint for mountpoint, _, _ in places}
        for file in plan.swap_files:
            if file.volume in here:
                make_swap(root, file)
                edited = replace(edited, files=(*edited.files, file.path))
        return edited


def _identify(layer: Overlay, slot: Slot) -> None:
    if slot.fstype not in ext4.TYPES:
        raise FixupFailed(f"This version cannot give a {slot.fstype} file system a new identity.")
    ext4.settle(layer.path, "settle", slot.fstype)
    uuids.set_ext4(layer.path, slot.identity)


def make_swap(root: Path, file: SwapFile) -> None:
    """A fresh header: the blocks of swap files are not copied, and there is nothing to resume."""
    path = inside(root, file.path)
    if path is None or not path.is_file():
        raise FixupFailed(f"The swap file {file.path} is not in the copy.")
    run("mkswap", str(path))
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _files_of(slot: Slot, slots: list[Slot], edited: Edited) -> tuple[str, ...]:
    """The edited files that lie in `slot`."""

    def home(name: str) -> str:
        places = (one.mountpoint for one in slots)
        return max((p for p in places if name.startswith(f"{p.rstrip('/')}/")), key=len)

    return tuple(name for name in edited.files if home(name) == slot.mountpoint)


def _fixed(slot: Slot, layer: Overlay, given: Blocks, edited: tuple[str, ...]) -> FixedSlot:
    changes = layer.changes()
    content = dict(changes)
    identity = BlockSet.of((offset, offset + len(block)) for offset, block in given)
    written = BlockSet.of((offset, offset + len(block)) for offset, block in changes)
    different = BlockSet.of(
        (offset, offset + len(block)) for offset, block in _differing(layer.origin, changes)
    )
    if slot.fstype == "vfat" and not different:
        return FixedSlot(slot.name, (), (), ())  # as most times: it need not be touched
    if identity.minus(written):
        raise FixupFailed(f"The superblocks of {slot.name} are not all in its overlay.")
    return FixedSlot(
        slot.name,
        _cut(content, different.minus(identity)),
        _cut(content, identity),
        edited,
        written.minus(different).minus(identity),
    )


def _differing(origin: str, changes: list[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    """Those of the overlay's chunks that are not on the slot already."""
    descriptor = os.open(origin, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for offset, block in changes:
            if os.pread(descriptor, len(block), offset) != block:
                yield offset, block
    finally:
        os.close(descriptor)


def _cut(chunks: dict[int, bytes], ranges: BlockSet) -> Blocks:
    """The content of `ranges`, taken from whole chunks; pieces do not cross chunks."""
    if not chunks:
        return ()
    size = len(next(iter(chunks.values())))
    found = []
    for start, end in ranges.pieces(size):
        chunk = start - start % size
        found.append((start, chunks[chunk][start - chunk : end - chunk]))
    return tuple(found)
