# SPDX-License-Identifier: GPL-3.0-or-later
"""The fix-ups of a disk that `prepare` made, once more: what is right already stays untouched.

The work is done in overlays: looking at a slot by mounting it would change its superblock, and the
next update would have to take the copy for one that was booted.
"""

from contextlib import ExitStack, closing
from dataclasses import replace

from builder.change import superblock
from builder.copying.direct import Reader, buffer
from builder.fixup import ext4, marker
from builder.fixup.assemble import assembled
from builder.fixup.fix import FixedSlot
from builder.fixup.inside import inside
from builder.fixup.names import Names
from builder.fixup.overlay import CHUNK, PREFIX, Overlay, clean_leftovers, explained, overlay
from builder.fixup.tree import MARKER, Edited, fix_tree
from builder.plan.fstab import identity_of
from core.errors import CannotCopyFileSystem, NotPrepared
from core.model.blockset import BlockSet
from core.model.copy import Pair
from core.model.machine import Disk, Machine, Partition
from core.namespace import mounted
from core.screen import Screen

_SLOT = "dpsr-slot-"


def is_prepared(disk: Disk) -> bool:
    """Whether the disk has slots."""
    return any(part.name.startswith(_SLOT) for part in disk.partitions)


def fix_prepared(
    machine: Machine, disk: Disk, screen: Screen
) -> tuple[Edited, tuple[FixedSlot, ...]]:
    """Find what in the copy on `disk` names the primary (again), and what is to be written.

    Nothing is, when nothing does. To be called in a private mount namespace, the disk locked.
    Raises NotPrepared, FixupFailed, OldIdentityRemains.
    """
    clean_leftovers()
    slots = {part.partuuid: part for part in disk.partitions if part.name.startswith(_SLOT)}
    said = _marker(disk, slots)
    names = Names(tuple(_with_paths(machine, pair) for pair in marker.load(said).pairs))
    primary = machine.disk_of(next((m.source for m in machine.mounts if m.mountpoint == "/"), ""))
    drivers = tuple(dict.fromkeys((*disk.drivers, *(primary.drivers if primary else ()))))
    with ExitStack() as stack:
        layers = []
        places = []
        for pair in names.pairs:
            if pair.mountpoint:
                slot = slots[pair.new.partuuid]
                layer = stack.enter_context(overlay(slot.path, slot.name.removeprefix(_SLOT)))
                layers.append(layer)
                places.append((pair.mountpoint, pair.fstype, layer.path))
        with explained(*layers), assembled(places) as (root, scratch):
            edited = fix_tree(root, names, drivers, scratch, said)
        fixed = tuple(map(_fixed, layers)) if edited.files else ()
    for note in edited.notes:
        screen.warn(note)
    return edited, tuple(each for each in fixed if each.data)


def _marker(disk: Disk, slots: dict[str, Partition]) -> bytes:
    root = next((slot for slot in slots.values() if slot.name == f"{_SLOT}root"), None)
    if root is not None and root.fstype in ext4.TYPES:
        # noload: not even the journal of a copy that was not shut down is replayed
        with mounted(root.path, "look", "ro", "noload", fstype=root.fstype) as folder:
            path = inside(folder, MARKER)
            if path is not None:
                content = path.read_bytes()
                missing = {pair.new.partuuid for pair in marker.load(content).pairs} - set(slots)
                if not missing:
                    return content
    raise NotPrepared(
        f"{disk.path} holds no complete copy yet. Nothing was written.",
        "Complete it with `dpsr prepare` and that disk.",
    )


def _with_paths(machine: Machine, pair: Pair) -> Pair:
    """The pair with the names under which this machine knows the old device now."""
    for disk in machine.disks:
        for part in disk.partitions:
            if part.uuid and part.uuid == pair.old.uuid:
                paths = identity_of(machine, part.path).paths
                return replace(pair, old=replace(pair.old, paths=paths))
    return pair


def _fixed(layer: Overlay) -> FixedSlot:
    """What is to be written to the slot below `layer`: its superblocks last, all of them."""
    name = layer.name.removeprefix(PREFIX)
    changes = dict(layer.changes())
    with closing(Reader(layer.origin)) as slot:
        identity = _identity(slot)
        found = {at: _read(slot, at, end) for at, end in identity.pieces(CHUNK)}
        different = {
            at: content
            for at, content in changes.items()
            if _read(slot, at, at + len(content)) != content
        }
    last = tuple(sorted((at, changes.get(at, content)) for at, content in found.items()))
    data = tuple(sorted((at, new) for at, new in different.items() if at not in found))
    return FixedSlot(name, data, last, ())


def _identity(slot: Reader) -> BlockSet:
    """The chunks by which its file system is found."""
    try:
        shape = superblock.parse(_read(slot, 0, CHUNK)[superblock.AT :][: superblock.SIZE], "it")
    except CannotCopyFileSystem:
        return BlockSet.of([(0, CHUNK)])  # FAT
    return superblock.identity_blocks(shape).aligned(CHUNK)


def _read(slot: Reader, start: int, end: int) -> bytes:
    view = buffer(end - start)
    slot.read_into(start, view)
    return bytes(view)
