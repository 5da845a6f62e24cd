# SPDX-License-Identifier: GPL-3.0-or-later
"""What the primary keeps of a copy: which disk it is on, what the last run did, how it boots."""

from dataclasses import replace

from core import record, settings
from core.errors import ToolError
from core.machine.counters import read_counters
from core.model.blockset import BlockSet
from core.model.copy import Plan
from core.model.live import Earlier, Instant
from core.model.manifest import Manifest
from core.record import Counters
from core.settings import Settings
from grub import order


def prepared(
    plan: Plan, manifest: Manifest, instant: Instant, state_at: int, counters: Counters
) -> None:
    """Record the DPSR disk in /etc/dpsr and the run in /var/lib/dpsr.

    `counters` were read before the copy began: what was written since is never told too small.
    """
    settings.save(settings.load().with_set(settings.set_of(plan, state_at)))
    _ran(plan, manifest, instant, counters)


def updated(
    plan: Plan, manifest: Manifest, instant: Instant, chosen: Settings, counters: Counters
) -> list[str]:
    """Record a run on the disk that is known already, and file systems that got another UUID.

    `chosen`: the settings as they were. Returns warnings: the backup is complete all the same.
    """
    uuids = {volume.mountpoint: volume.identity.uuid for volume in plan.volumes}
    known = chosen.named(plan.name)
    volumes = tuple(
        replace(each, uuid=uuids.get(each.mountpoint, each.uuid)) for each in known.volume
    )
    try:
        if volumes != known.volume:
            settings.save(settings.load().with_set(replace(known, volume=volumes)))
        _ran(plan, manifest, instant, counters)
    except (OSError, ToolError) as reason:
        return [
            (
                f"This run could not be recorded ({reason}): the next one compares everything. "
                "The backup itself is complete."
            )
        ]
    return []


def earlier(plan: Plan, last: Manifest, *, full: bool) -> dict[str, Earlier]:
    """What is known of each slot since the backup `last`."""
    known = record.read_record(plan.name)
    mounts: dict[str, int] = {}
    if known is not None and known.counters is not None and known.txid == last.txid:
        same_boot = known.counters.boot == counters_of(plan).boot
        mounts = dict(known.mounts) if same_boot else {}
    return {
        each.slot: Earlier(BlockSet.of(each.ranges), mounts.get(each.slot), full)
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
    return order.ensure_entry(plan.disk, plan.control.number, control, primary, others=others)


def _ran(plan: Plan, manifest: Manifest, instant: Instant, counters: Counters) -> None:
    known = record.read_record(plan.name)
    mounts = instant.mounts
    if plan.resting and known is not None and known.counters is not None:
        # Volumes that rest were last copied when they were.
        then = dict(known.counters.written) if known.counters.boot == counters.boot else {}
        written = dict(counters.written)
        written |= {place: then.get(place, 0) for place in plan.resting}
        counters = replace(counters, written=tuple(sorted(written.items())))
        mounts = (dict(known.mounts) if then else {}) | mounts
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
