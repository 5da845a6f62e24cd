# SPDX-License-Identifier: GPL-3.0-or-later
"""What the primary keeps of a copy: which disk it is on, what the last run did, how it boots."""

from core import record, settings
from core.machine.counters import read_counters
from core.model.copy import Plan
from core.model.manifest import Manifest
from grub import order


def prepared(plan: Plan, manifest: Manifest, state_at: int, counters: record.Counters) -> None:
    """Record the DPSR disk in /etc/dpsr and the run in /var/lib/dpsr.

    `counters` were read before the copy began: what was written since is never told too small.
    """
    settings.save(settings.load().with_set(settings.set_of(plan, state_at)))
    record.write_record(
        record.Record(
            plan.name,
            manifest.generation,
            manifest.txid,
            manifest.taken,
            manifest.figures,
            counters,
        )
    )


def counters_of(plan: Plan) -> record.Counters:
    """How much was written to each volume up to now."""
    return read_counters({volume.mountpoint: volume.dev for volume in plan.volumes})


def tell_firmware(plan: Plan) -> list[str]:
    """Give a UEFI machine its entry for the DPSR disk; returns warnings, one sentence each.

    A machine with BIOS has no such list that could be written: the recovery card says what to do.
    """
    if plan.firmware != "uefi":
        return []
    primary = [pair.old.partuuid for pair in plan.pairs if pair.old.partuuid]
    return order.ensure_entry(
        plan.disk, plan.control.number, plan.control.identity.partuuid, primary
    )
