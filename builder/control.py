# SPDX-License-Identifier: GPL-3.0-or-later
"""The control partition and the vault: what makes the DPSR disk bootable, what makes it valid."""

import secrets
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from builder import loaders, rescue, slots
from builder.check import sums
from builder.control_mount import control_at
from builder.copying.direct import Reader
from builder.digests.keeper import Keeper, Wanted
from builder.fixup.fix import FixedSlot
from builder.vault import fingerprint, manifests
from builder.vault.mend import vault_at
from core.errors import NotPrepared, StateUnreadable
from core.model.copy import Pair, Plan, Slot
from core.model.figures import RunFigures
from core.model.live import Instant
from core.model.machine import Disk
from core.model.manifest import Manifest, SlotState
from core.model.state import State
from core.screen import Screen
from grub import menu, state


def build(plan: Plan, screen: Screen) -> int:
    """Make the disk bootable by both firmwares, in state `building`.

    Returns where the state block lies on the disk, in bytes. Raises LoaderFailed, StateUnreadable.
    """
    device = plan.slot_path(plan.control.number)
    facts = menu.MenuFacts(plan.hostname, plan.serial or plan.model, plan.disk_guid)
    with control_at(device, screen) as folder:
        name = rescue.put_or_warn(folder, screen)
        state.create(folder, State("building").with_rescue(name))
        rescue.sweep(folder, name)
        offset = state.locate(folder)
        loaders.make(plan.disk, folder, menu.render(facts), screen)
        sums.keep_loader(folder, sums.raw(plan.disk, plan.bios.start))
    if state.read_state(plan.disk, offset).state != "building":
        raise StateUnreadable(f"The state block of {plan.disk} does not say `building`.")
    return offset


def refresh(disk: Disk, hostname: str, screen: Screen) -> None:
    """Bring the loader of a prepared disk in order; its state stays, and what is good of it.

    Raises LoaderFailed, NotPrepared.
    """
    found = [part for part in disk.partitions if part.name == "dpsr-control"]
    if not found:
        raise NotPrepared(f"{disk.path} has no control partition. Nothing was written.")
    facts = menu.MenuFacts(hostname, disk.serial or disk.model, disk.guid)
    with control_at(found[0].path, screen) as folder:
        loaders.mend(disk, folder, menu.render(facts), screen)


def describe(
    plan: Plan,
    instant: Instant,
    fixed: tuple[FixedSlot, ...],
    seconds: float,
    last: Manifest | None = None,
) -> Manifest:
    """The manifest of the generation after `last`, whose blocks are all on the slots by now.

    A volume that rests, or went away, keeps what `last` says of it. Raises ReadFailed.
    """
    now = datetime.fromtimestamp(instant.taken, UTC).isoformat(timespec="seconds")
    # What people ask for is the age of the system; a volume of another age says so itself.
    taken = last.taken if last and "/" in plan.resting else now
    copied = [_slot_state(plan, slot) for _, slot in plan.copied]
    here = {slot.mountpoint for slot in copied}
    kept = [slot for slot in last.slots if slot.mountpoint not in here] if last else []
    known = last.fixups if last else ()
    return Manifest(
        name=plan.name,
        txid=secrets.token_hex(16),
        generation=last.generation + 1 if last else 1,
        parent="",
        undo_log="",
        taken=taken,
        hostname=plan.hostname,
        kernel=plan.kernel,
        disk_guid=plan.disk_guid,
        slots=(
            *(replace(slot, taken="" if taken == now else now) for slot in copied),
            *(_aged(slot, last.taken, taken) for slot in kept if last),
        ),
        pairs=(*plan.pairs, *_gone(plan, last)),
        fixups=(
            *slots.fixups(fixed, instant.swap),
            *(one for one in known if one.slot in {slot.name for slot in kept}),
        ),
        figures=RunFigures(
            seconds=round(seconds, 3),
            bytes_examined=instant.bytes_examined,
            bytes_written=instant.bytes_written,
            passes=instant.passes,
            stall_seconds=round(instant.stall_seconds, 4),
            detector=", ".join(sorted(set(instant.detectors.values()))) or "used",
        ),
    )


@contextmanager
def first_vault(plan: Plan) -> Iterator[Path]:
    """The vault of a first copy, empty: what an earlier try or chain left is deleted."""
    with vault_at(plan.slot_path(plan.vault.number), "noatime") as vault:
        manifests.clear(vault)
        yield vault


def keep(
    plan: Plan, vault: Path, manifest: Manifest, digests: Keeper, wanted: Mapping[str, Wanted]
) -> Manifest:
    """Write digests and manifest of a first copy. They count once the state sector names it."""
    paths = {slot.name: plan.slot_path(slot.number) for slot in plan.slots}
    files = digests.write(manifest.txid, plan.disk_guid, wanted, paths.__getitem__)
    manifest = replace(manifest, digests=files)
    manifests.write(vault, manifest)
    return manifest


def commit(plan: Plan, manifest: Manifest, state_at: int) -> None:
    """Write the one sector that makes the copy valid. Raises StateUnreadable."""
    before = state.read_state(plan.disk, state_at)
    valid = State(
        "clean",
        gen=1,
        taken=manifest.taken,
        txid=manifest.txid,
        slot=plan.boot_slot.identity.uuid,
        extra=before.extra,
    )
    state.write_state(plan.disk, state_at, valid)


def _gone(plan: Plan, last: Manifest | None) -> tuple[Pair, ...]:
    """The names of slots whose volumes went away: they may come back."""
    here = {volume.mountpoint for volume in plan.volumes}
    known = last.pairs if last else ()
    return tuple(pair for pair in known if pair.mountpoint and pair.mountpoint not in here)


def _aged(slot: SlotState, before: str, taken: str) -> SlotState:
    """A slot that was left alone by a backup whose point in time is `taken`."""
    own = slot.taken or before
    return replace(slot, taken="" if own == taken else own)


def _slot_state(plan: Plan, slot: Slot) -> SlotState:
    superblock = journal = ""
    if slot.fstype == "ext4":
        with closing(Reader(plan.slot_path(slot.number))) as reader:
            superblock, journal = fingerprint.of_ext4(reader)
    return SlotState(
        slot.name,
        slot.mountpoint,
        slot.fstype,
        slot.number,
        slot.start,
        slot.size,
        superblock,
        journal,
    )
