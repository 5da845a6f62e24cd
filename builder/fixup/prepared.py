# SPDX-License-Identifier: GPL-3.0-or-later
"""The fix-ups of a disk that `prepare` made, once more: what is right already stays untouched.

The work is done in overlays: looking at a slot by mounting it would change its superblock, and the
next update would have to take the copy for one that was booted.
"""

import os
from contextlib import ExitStack
from dataclasses import replace

from builder.fixup import ext4, marker
from builder.fixup.assemble import assembled
from builder.fixup.inside import inside
from builder.fixup.names import Names
from builder.fixup.overlay import Overlay, clean_leftovers, overlay
from builder.fixup.tree import MARKER, Edited, fix_tree
from builder.plan.fstab import identity_of
from core.errors import NotPrepared
from core.model.copy import Pair
from core.model.machine import Disk, Machine, Partition
from core.namespace import mounted
from core.screen import Screen

_SLOT = "dpsr-slot-"


def is_prepared(disk: Disk) -> bool:
    """Whether the disk has slots."""
    return any(part.name.startswith(_SLOT) for part in disk.partitions)


def fix_prepared(machine: Machine, disk: Disk, screen: Screen) -> Edited:
    """Edit whatever in the copy on `disk` names the primary (again).

    To be called in a private mount namespace, the disk locked. Raises NotPrepared, FixupFailed,
    OldIdentityRemains.
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
        with assembled(places) as (root, scratch):
            edited = fix_tree(root, names, drivers, scratch, said)
        written = [(layer, layer.changes()) for layer in layers] if edited.files else []
    for layer, changes in written:  # the overlays are gone, and the slots free
        _write(layer, changes)
    for note in edited.notes:
        screen.warn(note)
    return edited


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


def _write(layer: Overlay, changes: list[tuple[int, bytes]]) -> None:
    descriptor = os.open(layer.origin, os.O_RDWR | os.O_CLOEXEC)
    try:
        for offset, content in changes:
            if os.pread(descriptor, len(content), offset) != content:
                os.pwrite(descriptor, content, offset)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
