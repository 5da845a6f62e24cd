# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole sequence on one screen; read this first.

`prepare`: look at the machine, plan, partition the DPSR disk, make it bootable (it says that it
holds no complete copy yet), copy the running system, give the copy its own identity, commit, tell
the firmware. Until the commit, the last sector written, the disk says `building` and is never
booted by default; `prepare` again goes on.

`update`: end what an interrupted run left, see what differs, and only then begin a transaction:
copy, give the copy its own identity, commit. Whatever goes wrong takes the disk back to the backup
before. `fixup` repeats the part about identity and loader.
"""

import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final

from builder import again, control, loaders, remember, rescue, slots, trouble, work
from builder.copying.direct import Writer
from builder.digests.keeper import Keeper
from builder.fixup.clone import fix_clone
from builder.fixup.fix import fix_up, need_fixups
from builder.fixup.overlay import clean_leftovers
from builder.fixup.prepared import is_prepared
from builder.hiding import shown
from builder.partition import adopt, make_file_systems, need_partitioning, partition
from builder.plan.clone import plan_clone
from builder.plan.guards import check_change, check_disk, check_name
from builder.plan.identity import Fresh
from builder.plan.layout import make_plan
from builder.plan.recorded import copy_only, plan_update
from builder.plan.wish import How, Wish
from builder.refix import refix
from builder.status import copy_we_run_from
from builder.still.hooks import Hooks
from builder.still.live import LiveOptions, copy_live
from builder.target import digests_on, find_target, opened, transaction_on
from builder.vault.transaction import Transaction
from builder.vault.unlike import HEALS
from core import points, settings
from core.claim import locked
from core.errors import RunningFromCopy, ToolError
from core.files import LOCK, lock
from core.machine.find import find_disk
from core.machine.look import look
from core.model.copy import Plan
from core.model.live import Found
from core.model.machine import Machine
from core.model.manifest import Manifest
from core.namespace import go_private
from core.screen import Screen, duration, human, moment
from core.signals import Ended, deferred
from grub.clone import install_on_clone
from grub.guard import PrimaryGuard
from grub.install import need_grub
from grub.primary import PrimaryMenu

FSTAB: Final = Path("/etc/fstab")

NO_COPY_YET: Final = (
    "The DPSR disk holds no complete copy yet and says so when it is booted; the primary is as it "
    "was."
)

COMPLETE: Final = (
    "The DPSR disk holds a complete copy that starts; this system may not have recorded it. Run "
    "the same command again."
)

BEING_FIXED: Final = (
    "That disk may not start as it is; the primary is as it was. Run the same command again."
)

Confirm = Callable[[Plan], None]
"""Shows the plan to a person and returns, or raises Refused."""


def prepare(disk_name: str, wish: Wish, screen: Screen, confirm: Confirm) -> Manifest:
    """Make the disk called `disk_name` the DPSR disk: the first full copy of the running system.

    With `wish.again` the disk of the set is laid out anew; its name may be left out then.
    Raises Refused (nothing was written) or StepFailed (`disk_holds` says what is on the disk).
    """
    begun = time.monotonic()
    # Whoever calls puts the recovery card onto the disk next, and hides it by that.
    with lock(LOCK, "prepare"), shown(screen, leave=True):
        go_private()
        clean_leftovers()
        plan, is_ours = _plan(disk_name, wish)
        need_partitioning()
        need_grub()
        need_fixups()
        confirm(plan)
        holds = _Holds(NO_COPY_YET)
        with ExitStack() as stack:
            stack.enter_context(trouble.named(plan.disk, plan.serial))
            stack.enter_context(locked(plan.disk))
            stack.enter_context(holds.told())
            if is_ours:
                screen.step(
                    f"Going on: {plan.disk} is laid out already, only what differs is written"
                )
            else:
                screen.step(f"Partitioning {plan.disk} ({plan.model}, {plan.serial})")
                partition(plan)
                make_file_systems(plan)
            points.reach("partitioned")

            screen.step("Making it bootable, by BIOS and by UEFI")
            state_at = control.build(plan, screen)
            points.reach("bootable")

            screen.step("Copying the running system")
            written = remember.counters_of(plan)
            slots.sync_fat(plan)
            vault = stack.enter_context(control.first_vault(plan))
            digests = stack.enter_context(closing(Keeper(vault, slots.log_slots(plan))))
            paths = slots.paths_of(plan)
            writers = digests.writers(slots.direct_writers(paths, stack))
            options = _options(settings.load(), compare=is_ours)
            instant = copy_live(slots.sources(plan, digests), options, screen, writers)
            points.reach("copied")

            screen.step("Giving the copy its own identity")
            fixed = fix_up(plan, instant.identity, screen)
            points.reach("fixed")
            slots.write_fixups(fixed, writers, paths)
            points.reach("written")

            manifest = control.describe(plan, instant, fixed, time.monotonic() - begun)
            wanted = slots.wanted(plan, instant.used, fixed)
            manifest = control.keep(plan, vault, manifest, digests, wanted)
            points.reach("manifest")
            with deferred():
                control.commit(plan, manifest, state_at)
                holds.sentence = COMPLETE
            points.reach("committed")
        with holds.told():
            remember.prepared(plan, manifest, instant, state_at, written)
            known = settings.load()
            screen.note("Telling the firmware, and the menu of this system")
            for warning in (
                *remember.tell_firmware(plan, known),
                *PrimaryMenu().offer(known.sets),
                *PrimaryGuard().follow(
                    {each.control_uuid for each in known.sets}, plan.control.identity.uuid
                ),
            ):
                screen.warn(warning)
    screen.step(
        f"Done in {duration(time.monotonic() - begun)}: {plan.disk} is a bootable copy of this "
        f"system as it was at {moment(manifest.taken)}"
    )
    return manifest


def update(name: str, how: How, screen: Screen) -> Manifest:
    """The routine backup of the set `name`: only what changed is copied, to the DPSR disk.

    Raises Refused (nothing was written) or StepFailed (`disk_holds` says what is on the disk).
    """
    begun = time.monotonic()
    with lock(LOCK, "update"), shown(screen, name):
        go_private()
        clean_leftovers()
        chosen = settings.load()
        target = find_target(chosen, name)
        need_fixups()
        with (
            trouble.named(target.disk.path, target.disk.serial),
            locked(target.disk.path),
            opened(target, screen) as held,
            _Holds(held.holds).told(),
        ):
            plan, shape = plan_update(
                target.machine, target.disk, target.known, held.last, FSTAB.read_text("utf-8")
            )
            plan = copy_only(plan, how.only)
            slots.need_room(plan)
            for sentence in shape.sentences():
                screen.warn(f"{sentence} Take it up with `dpsr prepare --again`.")
            if held.worked_on and held.state.trial == "2":
                screen.step("The copy was started as a trial: what was done there is forgotten")
            elif held.worked_on and not how.discard_work:
                work.refuse(held.last, held.vault, target.path)
            for sentence in held.faults:
                screen.warn(f"{sentence} {HEALS}.")

            renewed = rescue.refresh(target, held, screen)
            loaders.refresh(target, screen)
            screen.step(f"Looking for what changed since {moment(held.last.taken)}")
            written = remember.counters_of(plan)
            identity = slots.identity_ranges(plan)
            places = slots.log_slots(plan)
            with (
                digests_on(renewed, places, screen) as digests,
                transaction_on(target, renewed, places, identity, screen, digests) as transaction,
            ):
                if how.full:
                    slots.read_fat_anew(plan, digests)
                known = remember.earlier(
                    plan, held.last, full=how.full or held.booted, digested=digests.covered
                )
                sources = slots.sources(plan, digests, known)
                slots.sync_fat(plan)
                firsts = slots.fat_identities(plan)
                begin = _Begin(transaction, how, chosen.max_change, screen)
                options = _options(chosen, bandwidth=how.bandwidth)
                instant = copy_live(sources, options, screen, begin=begin)
                points.reach("copied")

                screen.step("Giving the copy its own identity")
                fixed = fix_up(plan, firsts | instant.identity, screen, begin.writers)
                points.reach("fixed")
                slots.write_fixups(fixed, begin.writers, slots.paths_of(plan))
                points.reach("written")

                seconds = time.monotonic() - begun
                manifest = transaction.commit(
                    control.describe(plan, instant, fixed, seconds, held.last),
                    slots.wanted(plan, instant.used, fixed),
                )
        with _Holds(COMPLETE).told():
            for warning in (
                *remember.updated(plan, manifest, instant, chosen, written, held.last),
                *remember.tell_firmware(plan, chosen),
            ):
                screen.warn(warning)
    screen.step(
        f"Done in {duration(time.monotonic() - begun)}: generation {manifest.generation}, the "
        f"system as it was at {moment(manifest.taken)}; "
        f"{human(manifest.figures.bytes_written)} copied"
    )
    return manifest


def fixup(disk_name: str, screen: Screen) -> None:
    """The fix-ups and the loader alone: on a prepared disk, or on a clone that another tool made.

    Again does no harm. Raises Refused (nothing was written) or StepFailed.
    """
    with lock(LOCK, "fixup"), shown(screen):
        go_private()
        clean_leftovers()
        machine = look()
        _refuse_on_copy(machine)
        disk = find_disk(machine, disk_name)
        check_name(machine, disk_name, yes=True)
        clone = None
        if is_prepared(disk):
            check_disk(machine, disk, ours=True)
        else:
            clone = plan_clone(machine, disk, FSTAB.read_text("utf-8"))
        need_fixups()
        with (
            trouble.named(disk.path, disk.serial),
            locked(disk.path),
            _Holds(BEING_FIXED).told(),
        ):
            if clone is None:
                screen.step(f"Going through the copy on {disk.path} once more")
                edited = refix(machine, disk, screen)
                control.refresh(disk, machine.hostname, screen)
            else:
                loader = partial(install_on_clone, disk.path, firmware=machine.firmware)
                edited = fix_clone(clone, screen, loader)
    for name in edited.files:
        screen.note(name)
    count = len(edited.files) or "no"
    screen.step(f"Done: {disk.path} starts from itself; {count} files were changed")


def show(disk_name: str, wish: Wish, screen: Screen) -> Plan:
    """The plan alone, for `dpsr plan`. Raises Refused."""
    if os.geteuid() != 0:  # then a hidden disk stays so, and /run/dpsr/lock is not ours to hold
        return _plan(disk_name, replace(wish, again=True))[0]
    with lock(LOCK, "plan"), shown(screen):
        return _plan(disk_name, replace(wish, again=True))[0]


def _plan(disk_name: str, wish: Wish) -> tuple[Plan, bool]:
    """The plan, and whether the disk is laid out by it already, by a prepare that did not end."""
    known = settings.load()
    machine = look()
    _refuse_on_copy(machine)
    disk_name = disk_name or again.recorded_name(known, wish)
    disk = find_disk(machine, disk_name)
    check_name(machine, disk_name, yes=wish.yes)
    again.refuse_complete(disk, known, wish)
    wish = again.as_before(machine, known, wish)
    ours = any(disk.guid == recorded.guid for recorded in known.sets)
    fstab = FSTAB.read_text("utf-8")
    plan = make_plan(machine, disk, wish, fstab, Fresh(secrets.token_bytes), ours=ours)
    found = adopt(machine, disk, plan)
    return (found, True) if found else (plan, False)


def _refuse_on_copy(machine: Machine) -> None:
    if copy_we_run_from(machine):
        raise RunningFromCopy("This system runs from the DPSR disk. Nothing was written.")


def _options(
    chosen: settings.Settings, *, compare: bool = False, bandwidth: int = 0
) -> LiveOptions:
    return LiveOptions(
        quiet_for=chosen.quiet_for,
        quiet_wait=chosen.quiet_wait,
        max_freeze=chosen.max_freeze,
        tracker_buffer=chosen.tracker_buffer << 20,
        compare=compare,
        bandwidth=bandwidth,
        hooks=Hooks(chosen.before_freeze, chosen.after_thaw, chosen.hook_seconds),
    )


@dataclass(slots=True)
class _Begin:
    """Begins to write, once it is known what an update is about to change."""

    transaction: Transaction
    how: How
    max_change: int
    screen: Screen
    writers: Mapping[str, Writer] = field(default_factory=dict)

    def __call__(self, found: Mapping[str, Found]) -> Mapping[str, Writer]:
        """Raises ChangeTooLarge, VaultFull: nothing was written."""
        differs, used = (
            sum(getattr(each, what) for each in found.values()) for what in ("differs", "used")
        )
        check_change(differs, used, self.max_change, accept=self.how.accept_change)
        self.screen.step(f"Copying what changed: {human(differs)}")
        self.writers = self.transaction.begin(differs)
        return self.writers


@dataclass(slots=True)
class _Holds:
    """What the disk holds now, in a sentence."""

    sentence: str

    @contextmanager
    def told(self) -> Iterator[None]:
        """Whatever goes wrong in the block tells the person what the disk holds by then."""
        try:
            yield
        except (ToolError, Ended) as reason:
            reason.disk_holds = reason.disk_holds or self.sentence
            raise
