# SPDX-License-Identifier: GPL-3.0-or-later
"""`dpsr hide` and `dpsr reveal`: the DPSR disk out of sight, or in sight for a while, read-only."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from builder import hiding
from builder.status import copy_we_run_from
from core import hidden, settings
from core.errors import NotPrepared, Refused, RunningFromCopy
from core.files import HIDING, LOCK, lock
from core.machine.attached import Way
from core.machine.look import look
from core.model.machine import Disk
from core.run import run
from core.settings import BackupSet, Settings

TIMER: Final = "dpsr-reveal"
_NO_UNIT: Final = 5
"""Exit status of `systemctl stop` for a unit that there is not."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A disk that is in sight, read-only."""

    disk: Disk
    until: datetime


@dataclass(frozen=True, slots=True)
class Sight:
    """What became of one set's disk."""

    known: BackupSet
    way: Way | None
    """How it was hidden now; None: there was nothing to do."""
    away: bool
    """It is detached; else, without a way, it is not there at all."""


def hide() -> tuple[Sight, ...]:
    """Hide the disk of every set now. Raises Refused and what `hiding.hide` does."""
    with lock(LOCK, HIDING):
        chosen = _settings()
        if not chosen.hide:
            raise Refused(
                "The settings say that the DPSR disk stays in sight. Nothing was changed.",
                "Set hide = true in /etc/dpsr/dpsr.toml, then run it again.",
            )
        done = hiding.hide()
        # Not the service: it may be what runs this.
        run("systemctl", "stop", f"{TIMER}.timer", ok=(0, _NO_UNIT))
        return tuple(
            Sight(known, done.get(known.name), hidden.away_now(known) is not None)
            for known in chosen.sets
        )


def reveal(name: str, seconds: float) -> Seen:
    """Bring the disk of a set into sight, read-only, for so long.

    Raises NotPrepared, RunningFromCopy, CopyUnreachable, AlreadyRunning.
    """
    with lock(LOCK, "reveal"):
        _settings().named(name)
        run("systemctl", "stop", f"{TIMER}.timer", ok=(0, _NO_UNIT))
        disk = hiding.reveal(name, seconds)
        run(
            "systemd-run", "--quiet", "--collect", f"--unit={TIMER}",
            "--description=Hide the DPSR disk again", f"--on-active={seconds:.0f}",
            "--timer-property=AccuracySec=1s", "/usr/sbin/dpsr", "hide",
        )  # fmt: skip
    return Seen(disk, datetime.now(UTC) + timedelta(seconds=seconds))


def _settings() -> Settings:
    """Raises NotPrepared, RunningFromCopy."""
    chosen = settings.load()
    if copy_we_run_from(look()) is not None:
        raise RunningFromCopy("This system runs from the DPSR disk: it is not hidden.")
    if not chosen.sets:
        raise NotPrepared("There is no DPSR disk. Nothing was changed.")
    return chosen
