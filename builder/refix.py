# SPDX-License-Identifier: GPL-3.0-or-later
"""The fix-ups of a DPSR disk once more: as a generation of its own, of the same point in time."""

import time
from collections.abc import Mapping
from contextlib import ExitStack, closing
from dataclasses import replace

from builder import slots
from builder.copying.direct import Reader
from builder.fixup.fix import FixedSlot
from builder.fixup.prepared import fix_prepared
from builder.fixup.tree import Edited
from builder.target import Held, Target, digests_on, opened, transaction_on
from builder.vault import fingerprint
from builder.vault.undoformat import LogSlot
from core import record, settings
from core.model.blockset import BlockSet
from core.model.copy import Fixups
from core.model.figures import RunFigures
from core.model.machine import Disk, Machine
from core.model.manifest import Manifest, SlotState
from core.screen import Screen


def refix(machine: Machine, disk: Disk, screen: Screen) -> Edited:
    """Edit whatever in the copy on `disk` names the primary; the whole happens or nothing does.

    On a disk that this system does not know it is written straight away, and done again after an
    interruption. To be called in a private mount namespace, the disk locked. Raises NotPrepared,
    StepFailed.
    """
    known = next((one for one in settings.load().sets if one.guid == disk.guid), None)
    if known is None:
        return _directly(machine, disk, screen)
    target = Target(known, machine, disk)
    with opened(target, screen) as held:
        return _guarded(target, held, screen)


def _directly(machine: Machine, disk: Disk, screen: Screen) -> Edited:
    edited, fixed = fix_prepared(machine, disk, screen)
    wanted = {f"dpsr-slot-{each.name}": each.name for each in fixed}
    paths = {wanted[part.name]: part.path for part in disk.partitions if part.name in wanted}
    with ExitStack() as stack:
        slots.write_fixups(fixed, slots.direct_writers(paths, stack), paths)
    return edited


def _guarded(target: Target, held: Held, screen: Screen) -> Edited:
    begun = time.monotonic()
    edited, fixed = fix_prepared(target.machine, target.disk, screen)
    if not fixed:
        return edited
    names = {each.name for each in fixed}
    touched = [slot for slot in held.last.slots if slot.name in names]
    places = [LogSlot(slot.name, slot.number, slot.start, slot.size) for slot in touched]
    identity = {each.name: slots.ranges_of(each.identity) for each in fixed}
    size = sum(slots.written_by(each).total for each in fixed)
    with (
        digests_on(held, places, screen) as digests,
        # What was never digested as a whole would be so in part.
        transaction_on(
            target, held, places, identity, screen, digests if digests.covered else None
        ) as transaction,
    ):
        writers = transaction.begin(size)
        paths = {slot.name: target.path(slot.number) for slot in touched}
        slots.write_fixups(fixed, writers, paths)
        figures = RunFigures(round(time.monotonic() - begun, 3), size, size, 0, 0.0, "fixup")
        manifest = transaction.commit(_manifest(held, fixed, paths, figures))
    known = record.read_record(manifest.name)
    if known is not None and known.txid == held.last.txid:
        record.write_record(replace(known, txid=manifest.txid, generation=manifest.generation))
    return edited


def _manifest(
    held: Held, fixed: tuple[FixedSlot, ...], paths: Mapping[str, str], figures: RunFigures
) -> Manifest:
    last = held.last
    # Of a copy that was booted the old hashes stay: they go on saying that it was.
    paths = {} if held.booted else paths
    more = {each.name: slots.written_by(each) for each in fixed}
    return replace(
        last,
        slots=tuple(_seen(slot, paths) for slot in last.slots),
        fixups=tuple(
            Fixups(one.slot, tuple(BlockSet.of(one.ranges).union(more[one.slot])), one.why)
            if one.slot in more
            else one
            for one in last.fixups
        ),
        figures=figures,
    )


def _seen(slot: SlotState, paths: Mapping[str, str]) -> SlotState:
    if slot.name not in paths or not slot.superblock:
        return slot
    with closing(Reader(paths[slot.name])) as reader:
        superblock, journal = fingerprint.of_ext4(reader)
    return replace(slot, superblock=superblock, journal=journal)
