# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes the DPSR disk back to an older generation, or says to which it can be taken.

Only the DPSR disk is written to. Cut off anywhere, the disk says that it is on its way back; the
next command that opens it, or its own rescue system, goes on with it.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from builder import remember, trouble
from builder.fixup.overlay import clean_leftovers
from builder.hiding import shown
from builder.history import Generation, generations_in
from builder.target import Held, Target, find_target, holding, holding_now, opened
from builder.vault import chain, recovery, unlike
from builder.vault.mend import vault_unchanged
from builder.vault.unlike import Unlike
from core import settings
from core.claim import locked
from core.errors import UndoLogDamaged
from core.files import LOCK, lock
from core.model.machine import Disk
from core.model.manifest import Manifest
from core.model.state import State
from core.namespace import go_private
from core.screen import Screen, duration, moment
from grub.state import read_state

STILL_GOOD: Final = (
    "That copy is complete, and `dpsr update` goes on from it; only the way back is lost. Look at "
    "`smartctl -a` of the DPSR disk."
)


@dataclass(frozen=True, slots=True)
class Way:
    """One generation in the vault, and what lies between it and what the disk holds."""

    generation: Generation
    is_here: bool
    """The disk holds it, or is on its way to it."""
    is_open: bool
    """It can be gone back to."""
    log_size: int
    """Bytes of all undo logs that lead there from the newest."""


@dataclass(frozen=True, slots=True)
class Ways:
    """All that `dpsr rollback` without a number says."""

    state: State
    holds: str
    """What the disk holds, in a sentence."""
    closed: str
    """Why no generation can be gone back to, in a sentence; empty: that is not so."""
    ways: tuple[Way, ...]
    """The newest first."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step back: what it leads to, and what is lost by it."""

    disk: Disk
    to: Manifest
    lost: tuple[Manifest, ...]
    """The generations above it, the newest first."""
    taken: bool = False
    """It has been taken: the disk holds `to`."""


Confirm = Callable[[Step], None]
"""Shows the step to a person and returns, or raises Refused."""


def ways(name: str, screen: Screen) -> Ways:
    """The generations of the set `name`, and which of them can be gone back to. Writes nothing.

    Raises NotPrepared, CopyUnreachable, AlreadyRunning, RunningFromCopy.
    """
    with lock(LOCK, "rollback"), shown(screen, name):
        go_private()
        target = find_target(settings.load(), name)
        state = read_state(target.disk.path, target.known.state_offset)
        with (
            trouble.named(target.disk.path, target.disk.serial),
            vault_unchanged(target.vault) as vault,
        ):
            known = generations_in(vault, state)
            found: tuple[Unlike, ...] = ()
            if state.state == "clean" and known:
                with chain.readable(vault):
                    found = unlike.examine(vault, known[0].manifest, target.path)
    return sort_out(state, known, closed=unlike.closed(found, booted=state.booted))


def sort_out(state: State, known: Sequence[Generation], *, closed: str = "") -> Ways:
    """Which of the generations can be gone back to; `closed`: why none can. Pure."""
    # What was interrupted is brought to an end first.
    here = state.gen if state.to is None else state.to
    sizes = accumulate((each.log_size for each in known), initial=0)
    return Ways(
        state,
        holding(state),
        closed,
        tuple(
            Way(
                each,
                each.manifest.generation == here,
                each.manifest.generation < here and not closed,
                size,
            )
            for each, size in zip(known, sizes, strict=False)
        ),
    )


def roll_back(name: str, to: int, screen: Screen, confirm: Confirm) -> Step:
    """Make the DPSR disk of the set `name` hold generation `to` again; return what was done.

    What lies above `to` is lost. What an interrupted run left is brought to an end before `confirm`
    is asked. Raises Refused (nothing was written) or StepFailed; `disk_holds` says what is on the
    disk, also when a signal ends it.
    """
    begun = time.monotonic()
    with lock(LOCK, "rollback"), shown(screen, name):
        go_private()
        clean_leftovers()
        target = find_target(settings.load(), name)
        state_at = target.known.state_offset
        disk = target.disk
        with trouble.named(disk.path, disk.serial), _told(target), locked(disk.path):
            before = read_state(target.disk.path, state_at)
            with opened(target, screen) as held:
                step = _plan(target, held, to)
                if step.lost:
                    confirm(step)
                    remember.going_back(step.to)
                    screen.step(
                        f"Going back to generation {to}, as it was at {moment(step.to.taken)}"
                    )
                    recovery.roll_back(
                        target.disk.path, state_at, held.vault, held.state, to, target.path, screen
                    )
            if not step.lost and before.state == "clean":
                screen.step(
                    f"The DPSR disk holds generation {to} already, the system as it was at "
                    f"{moment(step.to.taken)}. Nothing was written."
                )
                return step
            if step.lost or before.state == "rolling-back":
                for warning in remember.went_back(step.to):
                    screen.warn(warning)
    screen.step(
        f"Done in {duration(time.monotonic() - begun)}: the DPSR disk holds generation {to} again, "
        f"the system as it was at {moment(step.to.taken)}. The next `dpsr update` goes on from it."
    )
    return Step(step.disk, step.to, step.lost, taken=True)


def _plan(target: Target, held: Held, to: int) -> Step:
    """Raises NoSuchGeneration, ChainClosed."""
    *lost, reached = recovery.way_back(held.vault, held.state, to, target.path)
    return Step(target.disk, reached, tuple(lost))


@contextmanager
def _told(target: Target) -> Iterator[None]:
    """However the block ends early, the person hears what the disk itself says by then."""
    try:
        yield
    except BaseException as reason:  # signals and faults of ours, too
        state, sentence = holding_now(target)
        if not getattr(reason, "disk_holds", ""):
            with suppress(AttributeError):
                reason.disk_holds = sentence  # type: ignore[attr-defined]
        if isinstance(reason, UndoLogDamaged) and state is not None and state.state == "clean":
            reason.hint = STILL_GOOD
        raise
