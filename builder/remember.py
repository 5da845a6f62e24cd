# SPDX-License-Identifier: GPL-3.0-or-later
"""What the primary keeps of a copy: which disk it is on, and what the last run did."""

from core import record, settings
from core.machine.counters import read_counters
from core.model.copy import Plan
from core.model.manifest import Manifest


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
