# SPDX-License-Identifier: GPL-3.0-or-later
"""The DPSR disk of a backup set: found, healed after an interrupted run, its vault at hand."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from builder.digests.format import Damaged
from builder.digests.keeper import Keeper
from builder.digests.store import stack_of
from builder.plan.guards import check_disk
from builder.status import copy_we_run_from
from builder.vault import chain, manifests, unlike
from builder.vault.mend import vault_at
from builder.vault.recovery import recover
from builder.vault.transaction import AS_BEFORE, Transaction
from builder.vault.undoformat import LogSlot
from builder.vault.unlike import Unlike
from core import record
from core.errors import (
    CopyUnreachable,
    NotPrepared,
    ReadFailed,
    RunningFromCopy,
    ToolError,
    UnknownFormat,
)
from core.machine.find import find_recorded
from core.machine.look import look
from core.machine.reread import read_table_again
from core.model.blockset import BlockSet
from core.model.copy import partition_path
from core.model.machine import Disk, Machine
from core.model.manifest import Manifest
from core.model.state import State
from core.screen import Screen, moment
from core.settings import BackupSet, Settings
from core.signals import Ended
from grub.state import read_state

HALF: Final = (
    "What was interrupted on {disk} could not be brought to an end: that disk does not start until "
    "it can. The primary is as it was."
)
HOLDS: Final = {
    "building": "The first copy on the DPSR disk is not complete.",
    "clean": "The DPSR disk holds generation {gen}, the system as it was at {taken}, and starts.",
    "updating": (
        "The DPSR disk does not start as it is: it is going back to the backup of {taken}. "
        "`dpsr update` and `dpsr rollback` do that first{rescue}."
    ),
    "rolling-back": (
        "The DPSR disk does not start as it is: it is on its way back to generation {to}. "
        "`dpsr rollback {to}` and `dpsr update` go on with it{rescue}."
    ),
}
"""By phase: what the disk holds, in a sentence."""
_RESCUE: Final = ", and so does the rescue system when that disk is started"
NO_MANIFEST: Final = (
    "Look at `dmesg` and `smartctl -a` of that disk; `dpsr prepare --again` makes it anew, or "
    "replace it."
)
UNKNOWN: Final = "What the DPSR disk holds now cannot be told: {reason} The primary is as it was."


@dataclass(frozen=True, slots=True)
class Target:
    """One recorded DPSR disk, and the machine that it was found in."""

    known: BackupSet
    machine: Machine
    disk: Disk

    def path(self, number: int) -> str:
        """Device of partition `number`."""
        return partition_path(self.disk.path, number)

    @property
    def vault(self) -> str:
        """Device of the vault. Raises NotPrepared."""
        return self._part(self.known.vault_guid, "vault")

    @property
    def control(self) -> str:
        """Device of the control partition. Raises NotPrepared."""
        return self._part(self.known.control_guid, "control partition")

    def _part(self, guid: str, what: str) -> str:
        for part in self.disk.partitions:
            if part.partuuid == guid:
                return part.path
        raise NotPrepared(
            f"The {what} is not on {self.disk.path} any more. Nothing was written.",
            "Somebody has changed its partitions: make it anew with `dpsr prepare`.",
        )


@dataclass(frozen=True, slots=True)
class Held:
    """What the disk holds, as long as its vault is mounted."""

    state: State
    vault: Path
    last: Manifest
    unlike: tuple[Unlike, ...] = ()
    """Slots that are not as the last backup left them."""
    lost: tuple[str, ...] = ()
    """What the disk has lost beside that, in a few words each."""

    @property
    def worked_on(self) -> bool:
        """Whether somebody may have work on the copy: it was booted, or written to."""
        return self.state.booted or any(each.why == "work" for each in self.unlike)

    @property
    def holds(self) -> str:
        """What the disk holds, in a sentence, and again when a run has gone back."""
        if self.unlike and not self.worked_on:
            return " ".join(self.faults)
        return AS_BEFORE.format(taken=moment(self.state.taken))

    @property
    def faults(self) -> tuple[str, ...]:
        """What is wrong with the disk itself, a sentence or two each."""
        return unlike.faults(self.unlike, self.lost)

    @property
    def booted(self) -> bool:
        """Whether the slots hold something else than the last backup: no undo log leads back."""
        return self.state.booted or bool(self.unlike or self.lost)


def find_target(chosen: Settings, name: str) -> Target:
    """The DPSR disk recorded under `name`. Writes nothing.

    Raises NotPrepared, CopyUnreachable, AmbiguousDisk, RunningFromCopy.
    """
    known = chosen.named(name)
    machine = look()
    if copy_we_run_from(machine):
        raise RunningFromCopy("This system runs from the DPSR disk. Nothing was written.")
    disk = find_recorded(machine, known.serial, known.wwn, known.guid)
    if disk is None:
        called = known.serial or known.wwn
        raise CopyUnreachable(f"The DPSR disk ({known.model}, {called}) is not there.")
    wanted = {known.vault_guid, known.control_guid}
    if os.geteuid() == 0 and not wanted <= {part.partuuid for part in disk.partitions}:
        read_table_again(disk.path)
        machine = look()
        disk = find_recorded(machine, known.serial, known.wwn, known.guid) or disk
    return Target(known, machine, disk)


def holding(state: State) -> str:
    """What a DPSR disk in this state holds, in a sentence. Pure."""
    rescue = _RESCUE if state.rescue else ""
    return HOLDS[state.state].format(
        gen=state.gen, taken=moment(state.taken), to=state.to, rescue=rescue
    )


def holding_now(target: Target) -> tuple[State | None, str]:
    """The state of the disk at this moment, read once more, if it can be read; and the sentence."""
    try:
        state = read_state(target.disk.path, target.known.state_offset)
    except (ToolError, OSError) as reason:
        return None, UNKNOWN.format(reason=reason)
    return state, holding(state)


@contextmanager
def opened(target: Target, screen: Screen) -> Iterator[Held]:
    """End what an interrupted run left, and mount the vault for the length of the block.

    To be called in a private mount namespace, the disk locked. Raises NotPrepared when the first
    copy was never completed, and what `check_disk` does; StateUnreadable, UndoLogDamaged,
    UnknownFormat: then the copy does not start.
    """
    check_disk(target.machine, target.disk, ours=True)
    disk, state_at = target.disk.path, target.known.state_offset
    begun = read_state(disk, state_at).state
    if begun == "building":
        raise NotPrepared(
            f"The first copy on {disk} was never completed. Nothing was written.",
            f"Complete it with `dpsr prepare {target.known.serial or target.known.wwn}`.",
        )
    try:
        state = recover(disk, state_at, target.vault, target.path, screen)
    except ToolError as reason:
        reason.disk_holds = reason.disk_holds or HALF.format(disk=disk)
        raise
    except Ended as reason:
        _, reason.disk_holds = holding_now(target)
        raise
    with ExitStack() as stack:
        try:
            vault = stack.enter_context(vault_at(target.vault, "noatime"))
            with chain.readable(vault):
                last, lost = _last(vault, state)
            # An older manifest says nothing of what the slots hold; `booted` still does.
            found = () if lost else unlike.examine(vault, last, target.path)
        except ToolError as reason:
            reason.disk_holds = reason.disk_holds or holding(state)
            raise
        known = record.read_record(target.known.name)
        # A way back that was begun elsewhere, and has just ended, is on no record here.
        back = "" if begun == "rolling-back" else unlike.older(state, known)
        yield Held(state, vault, last, found, tuple(filter(None, (back, lost))))


def _last(vault: Path, state: State) -> tuple[Manifest, str]:
    """The manifest that the state names, or the newest there is, and what is lost then."""
    last = manifests.whole(vault, state.txid)
    if last is not None:
        return last, ""
    others = sorted(manifests.readable(vault), key=lambda each: each.generation)
    if not others:
        raise ReadFailed("The vault of the DPSR disk has lost all its manifests.", NO_MANIFEST)
    return others[-1], f"the manifest of generation {state.gen}"


@contextmanager
def digests_on(held: Held, slots: Sequence[LogSlot], screen: Screen) -> Iterator[Keeper]:
    """Who keeps the digests in a run that writes to `slots`; the others of the disk stay."""
    known = [LogSlot(each.name, each.number, each.start, each.size) for each in held.last.slots]
    every = {each.name: each for each in (*known, *slots)}
    with ExitStack() as stack:
        keeper = None
        if not held.booted:
            try:
                if (before := stack_of(held.vault, held.last)) is not None:
                    stack.enter_context(before)
                    keeper = Keeper(held.vault, tuple(every.values()), before)
            except (Damaged, UnknownFormat, OSError) as reason:
                screen.warn(
                    f"The digests on the DPSR disk are of no use: {reason} New ones are made."
                )
        yield stack.enter_context(closing(keeper or Keeper(held.vault, tuple(every.values()))))


def transaction_on(
    target: Target,
    held: Held,
    slots: Sequence[LogSlot],
    identity: Mapping[str, BlockSet],
    screen: Screen,
    digests: Keeper | None = None,
) -> Transaction:
    """What guards a change of `slots`; nothing is written yet. See Transaction."""
    return Transaction(
        target.disk.path,
        target.known.state_offset,
        held.vault,
        held.state,
        held.last,
        name=target.known.name,
        disk_guid=target.known.guid,
        slots=slots,
        slot_path=target.path,
        screen=screen,
        identity=identity,
        chained=not held.booted,
        digests=digests,
        as_before=held.holds,
    )
