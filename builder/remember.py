# SPDX-License-Identifier: GPL-3.0-or-later
"""What the primary keeps of a copy: which disk it is on, what the last run did, how it boots."""

from collections.abc import Collection
from dataclasses import replace

from builder import boots
from core import record, settings
from core.errors import ToolError
from core.machine.counters import read_counters
from core.machine.devices import boot_id
from core.model.blockset import BlockSet
from core.model.copy import Plan
from core.model.live import Earlier, Instant
from core.model.manifest import Manifest
from core.record import Counters
from core.settings import Settings
from grub import order
from grub.state import read_state


def prepared(
    plan: Plan, manifest: Manifest, instant: Instant, state_at: int, counters: Counters
) -> None:
    """Record the DPSR disk in /etc/dpsr and the run in /var/lib/dpsr.

    `counters` were read before the copy began: what was written since is never told too small.
    """
    settings.save(settings.load().with_set(settings.set_of(plan, state_at)))
    _ran(plan, manifest, instant, counters)


def updated(
    plan: Plan,
    manifest: Manifest,
    instant: Instant,
    chosen: Settings,
    counters: Counters,
    last: Manifest,
) -> list[str]:
    """Record a run on the disk that is known already, and file systems that got another UUID.

    `chosen`: the settings as they were. `last`: the backup before. Returns warnings: the backup is
    complete all the same.
    """
    uuids = {volume.mountpoint: volume.identity.uuid for volume in plan.volumes}
    known = chosen.named(plan.name)
    volumes = tuple(
        replace(each, uuid=uuids.get(each.mountpoint, each.uuid)) for each in known.volume
    )
    try:
        if volumes != known.volume:
            settings.save(settings.load().with_set(replace(known, volume=volumes)))
        _ran(plan, manifest, instant, counters, last.txid)
    except (OSError, ToolError) as reason:
        return [
            (
                f"This run could not be recorded ({reason}): the next one compares everything. "
                "The backup itself is complete."
            )
        ]
    return []


def going_back(manifest: Manifest) -> None:
    """Before the way back to `manifest`: nothing that is on record of it may be trusted later.

    The manifests above it name what was written past the file systems since (swap files that were
    in use then), and they are going to be lost. A record without counters also says that the disk
    may be found at an older generation: its rescue system may end this. Raises OSError.
    """
    known = record.read_record(manifest.name)
    if known is not None:
        record.write_record(replace(known, mounts=(), counters=None))


def went_back(manifest: Manifest) -> list[str]:
    """Record that the disk holds the older generation `manifest` again; returns warnings.

    No counters and no mounts: what is known of the newer backup says nothing about this one, so
    the next one compares everything.
    """
    known = record.read_record(manifest.name)
    try:
        record.write_record(
            record.Record(
                name=manifest.name,
                generation=manifest.generation,
                txid=manifest.txid,
                taken=manifest.taken,
                run=manifest.figures,
                drill=known.drill if known else None,
            )
        )
    except OSError as reason:
        return [f"This could not be recorded ({reason}); the DPSR disk itself says what counts."]
    return []


def earlier(
    plan: Plan, last: Manifest, *, full: bool, digested: Collection[str]
) -> dict[str, Earlier]:
    """What is known of each slot since the backup `last`; `digested`: those with digests."""
    known = record.read_record(plan.name)
    fits = known is not None and known.txid == last.txid
    mounts = _mounts_by_now(plan, known) if known is not None and fits else {}
    return {
        each.slot: Earlier(
            BlockSet.of(each.ranges), mounts.get(each.slot), full, each.slot in digested
        )
        for each in last.fixups
    }


def counters_of(plan: Plan) -> Counters:
    """How much was written to each volume up to now."""
    return read_counters({volume.mountpoint: volume.dev for volume in plan.volumes})


def tell_firmware(plan: Plan, chosen: Settings) -> list[str]:
    """Give a UEFI machine its entry for the DPSR disk; returns warnings, one sentence each.

    A machine with BIOS has no such list that could be written: the recovery card says what to do.
    """
    if plan.firmware != "uefi":
        return []
    primary = [pair.old.partuuid for pair in plan.pairs if pair.old.partuuid]
    control = plan.control.identity.partuuid
    others = [known.control_guid for known in chosen.sets if known.name != plan.name]
    return order.ensure_entry(
        plan.disk,
        plan.control.number,
        control,
        primary,
        others=others,
        first=_switched(plan, chosen),
    )


def _switched(plan: Plan, chosen: Settings) -> bool:
    """Whether `dpsr switch dpsr` is in force: the copy's entry stays first then."""
    try:
        return read_state(plan.disk, chosen.named(plan.name).state_offset).order != ""
    except ToolError:
        return False


def _ran(
    plan: Plan, manifest: Manifest, instant: Instant, counters: Counters, last: str = ""
) -> None:
    """`last`: the transaction that made the backup before."""
    known = record.read_record(plan.name)
    mounts = instant.mounts
    if plan.resting:
        # Volumes that rest were last copied when they were. A record of another backup than the
        # last says nothing of that: the disk may have gone back to an older one meanwhile.
        fits = known if known is not None and known.txid == last else None
        before = fits.counters if fits is not None else None
        same_boot = before is not None and before.boot == counters.boot
        then = dict(before.written) if before is not None and same_boot else {}
        written = dict(counters.written)
        written |= {place: then.get(place, 0) for place in plan.resting}
        counters = replace(counters, written=tuple(sorted(written.items())))
        mounts = (_mounts_by_now(plan, fits) if fits is not None else {}) | mounts
    record.write_record(
        record.Record(
            name=plan.name,
            generation=manifest.generation,
            txid=manifest.txid,
            taken=manifest.taken,
            run=manifest.figures,
            counters=counters,
            drill=known.drill if known else None,
            mounts=tuple(sorted(mounts.items())),
        )
    )


def _mounts_by_now(plan: Plan, known: record.Record) -> dict[str, int]:
    """By slot: how often its volume must have been mounted by now, if there was no crash since."""
    if known.counters is None:
        return {}
    then = dict(known.mounts)
    uuids = {plan.slot_of(each).name: each.identity.uuid for each in plan.volumes}
    mounts = {uuids[slot]: count for slot, count in then.items() if slot in uuids}
    by_now = boots.expected(known.counters.boot, mounts, boot_id(), boots.read())
    return {slot: by_now[name] for slot, name in uuids.items() if slot in then and name in by_now}
