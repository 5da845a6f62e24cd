# SPDX-License-Identifier: GPL-3.0-or-later
"""Lets the machine start the other disk: once or for good, and back to the order that was found.

UEFI: the firmware's boot entries. BIOS: GRUB's menu on the primary. What is kept of the order lies
in the DPSR disk's state block, so that either side can put it back, and on the primary.
"""

from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from builder.hiding import shown
from core import settings
from core.errors import BootOrderFailed, CannotWrite, CopyNotComplete, NoWayThere
from core.files import LOCK, lock
from core.namespace import go_private
from core.screen import Screen
from grub import turn
from grub.efibootmgr import BootManager, Efibootmgr
from grub.guard import PrimaryGuard
from grub.nvram import Nvram
from grub.order import bring_about
from grub.primary import PrimaryMenu, entry_id
from grub.turn import Side, Turn
from recovery import found_order
from recovery.sides import Sides, find_sides

IN_MENU: Final = (
    "When the machine starts, choose the disk in the firmware's boot menu; the primary's own menu "
    "has an entry for the DPSR disk, too."
)
BY_HAND: Final = (
    "When the machine starts, its own disk's menu appears: choose its first entry there, or take "
    "the disk in the BIOS's boot menu. Then run `dpsr switch primary` there."
)
NOT_FIRST: Final = (
    "The order is back as it was found, and that did not start the primary first. Choose the "
    "primary in the firmware's setup, or `dpsr switch primary --once` before each start."
)
_GUARD: Final = PrimaryGuard()
TO: Final = {"dpsr": "the DPSR disk", "primary": "the primary"}


@dataclass(frozen=True, slots=True)
class Standing:
    """What the machine is going to start, as far as it can be told."""

    here: Side
    by: str
    """`uefi` or `bios`."""
    next: Side | None
    """What the next start goes to by itself; None: it cannot be told."""
    once: bool
    """Only the next one: a later one goes by the order."""
    switched: bool
    """`dpsr switch dpsr` is in force."""
    trial: bool
    """The copy runs, or is started next, as a trial: the next update forgets what is done there."""
    order: tuple[str, ...]
    """The firmware's entries in their order, by name; empty by BIOS."""
    trouble: str = ""
    """What is not as it should be, in a sentence."""


def switch(
    name: str,
    to: Side,
    *,
    once: bool,
    screen: Screen,
    manager: BootManager | None = None,
    menu: PrimaryMenu | None = None,
) -> Sides:
    """Let the next start (`once`), or every start from now on, go to the disk `to`.

    Raises CopyNotComplete, NoWayThere, CannotWrite: nothing was changed. Raises BootOrderFailed,
    StateUnreadable: the message says what is known. Again does nothing more.
    """
    with lock(LOCK, "switch"), shown(screen, name):
        go_private()
        sides = find_sides(settings.load(), name)
        if to == "dpsr":
            refuse_incomplete(sides)
        if sides.firmware == "uefi":
            by_firmware(sides, Turn(to, once), manager or Efibootmgr(), screen)
        else:
            by_menu(sides, Turn(to, once), menu or PrimaryMenu(), screen)
    return sides


def standing(
    name: str, *, manager: BootManager | None = None, menu: PrimaryMenu | None = None
) -> Standing:
    """What `dpsr switch status` says. Writes nothing, and waits for nobody: one sector is read."""
    go_private()
    sides = find_sides(settings.load(), name, as_seen=True)
    if sides.firmware == "uefi":
        try:
            nvram = seen(sides, (manager or Efibootmgr()).read())
        except BootOrderFailed as reason:
            return _standing(sides, None, once=False, trouble=str(reason))
        return standing_by(sides, nvram)
    if sides.here == "dpsr":
        return _standing(sides, None, once=False)
    chosen = menu or PrimaryMenu()
    default, then = chosen.chosen(), chosen.next()
    ours = entry_id(sides.name)
    to: Side = "dpsr" if (then or default) == ours else "primary"
    return _standing(sides, to, once=bool(then), switched=default == ours)


def standing_by(sides: Sides, nvram: Nvram) -> Standing:
    """The same from what the firmware holds. Pure."""
    to = turn.starts_next(nvram, sides.wish)
    trouble = ""
    if sides.state.order and turn.starts_next(_without_next(nvram), sides.wish) != "dpsr":
        trouble = "The firmware did not keep the order: `dpsr switch dpsr` sets it again."
    names = (entry.label for n in nvram.order if (entry := nvram.entry(n)) is not None)
    once = nvram.next is not None
    return _standing(sides, to, once=once, order=tuple(names), trouble=trouble)


def refuse_incomplete(sides: Sides) -> None:
    """Raise CopyNotComplete unless the DPSR disk starts as it is."""
    if sides.state.state != "clean":
        raise CopyNotComplete(
            f"The DPSR disk says `{sides.state.state}`: it holds no complete copy. Nothing was "
            "changed."
        )


def by_firmware(
    sides: Sides,
    wanted: Turn,
    manager: BootManager,
    screen: Screen,
    guard: PrimaryGuard = _GUARD,
) -> None:
    """By the firmware's boot entries. Raises CannotWrite, NoWayThere, BootOrderFailed."""
    was = sides.state
    try:
        before = manager.read()
    except BootOrderFailed as reason:
        raise NoWayThere(f"{reason} Nothing was changed.", IN_MENU) from None
    if before.next is not None and turn.starts_next(before, sides.wish) is None:
        screen.warn(f"Boot{before.next:04X} was going to be started next; it is not any more.")
    if not wanted.once:
        if wanted.to == "dpsr":
            _keep_order(sides, before)
        else:
            found = found_order.read(was, sides.control.partuuid)
            wanted = Turn("primary", found=found)
    try:
        after = bring_about(
            manager,
            sides.disk.path,
            sides.control.number,
            lambda now: turn.next_step(seen(sides, now), sides.wish, wanted),
        )
    except (BootOrderFailed, NoWayThere) as reason:
        now: Nvram | None = None
        with suppress(BootOrderFailed):
            now = manager.read()
        if now == before:
            sides.write(was)
            if isinstance(reason, NoWayThere):
                raise
            raise CannotWrite(f"{reason} Nothing was changed.", IN_MENU) from None
        to = turn.starts_next(seen(sides, now), sides.wish) if now else None
        where = TO[to] if to else "neither disk, as far as can be told"
        raise BootOrderFailed(
            f"{reason} As it is, the next start goes to {where}.", IN_MENU
        ) from None
    _mark(sides, wanted, guard)
    if turn.starts_next(seen(sides, after), sides.wish) != wanted.to:
        screen.warn(NOT_FIRST)


def by_menu(
    sides: Sides,
    wanted: Turn,
    menu: PrimaryMenu,
    screen: Screen,
    guard: PrimaryGuard = _GUARD,
) -> None:
    """By GRUB's menu on the primary, for machines with BIOS. Raises CannotWrite, NoWayThere."""
    if sides.here == "dpsr":
        if wanted == Turn("primary") and guard.facts() is not None:
            sides.write(sides.state.with_primary("1"))
            screen.note("The guard lets the primary start again")
            return
        changed = "Nothing was changed."
        if wanted == Turn("dpsr") and sides.state.trial:
            sides.write(sides.state.with_trial(""))
            changed = "What is done here is kept: it is no trial any more. No more was changed."
        raise NoWayThere(
            "A BIOS starts the disks in an order that only its own setup can change, and the menu "
            f"in which dpsr chooses lies on the primary. {changed}",
            BY_HAND,
        )
    ours = entry_id(sides.name)
    if wanted.to == "dpsr":
        for warning in menu.offer(sides.sets):
            raise CannotWrite(warning)
    if wanted.once:
        if wanted.to == "dpsr":
            menu.start_once(ours)
        elif menu.chosen():
            menu.start_once("0")
        else:
            menu.forget_once()
    else:
        if wanted.to == "dpsr":
            sides.write(sides.state.with_trial(""))
        menu.start_always(ours if wanted.to == "dpsr" else "")
        menu.forget_once()
    _mark(sides, wanted, guard)
    if menu.chosen() and wanted.to == "primary" and wanted.once:
        screen.note("The start after that goes to the DPSR disk again")


def _keep_order(sides: Sides, before: Nvram) -> None:
    """Before the order is changed: keep it where both sides find it. What is done is no trial."""
    over = sides.here == "primary" and sides.state.trial == "2"
    state = sides.state if over else sides.state.with_trial("")
    if not state.order:
        if sides.here == "primary":
            found_order.keep(before.order, sides.control.partuuid)
        state = found_order.with_order(state, before.order)
    sides.write(state)


def _mark(sides: Sides, done: Turn, guard: PrimaryGuard) -> None:
    """Afterwards: cut off before, a trial that is none in the block only makes an update ask."""
    state = sides.state
    # Started before, and not as a trial: there is work on the copy, which nobody gave up.
    worked_on = state.booted and state.trial != "2"
    if done.to == "dpsr" and done.once and sides.here == "primary" and not worked_on:
        state = state.with_trial("1")
    if done.to == "primary" and not done.once:
        state = state.with_order("")
        if sides.here == "primary":
            guard.reset()
        elif guard.facts() is not None:  # as the primary's was when it was copied
            state = state.with_primary("1")
    if done.to == "primary" and sides.here == "primary" and state.trial == "1":
        # Called off. Should the copy be started all the same one day, that is no trial.
        state = state.with_trial("2" if state.booted else "")
    sides.write(state)
    if not state.order and sides.here == "primary":
        found_order.drop()


def seen(sides: Sides, nvram: Nvram) -> Nvram:
    """On the copy, the entry that started this system is none of the primary's."""
    if sides.here == "primary":
        return nvram
    return Nvram(None, nvram.next, nvram.order, nvram.entries)


def _without_next(nvram: Nvram) -> Nvram:
    return Nvram(nvram.current, None, nvram.order, nvram.entries)


def _standing(
    sides: Sides,
    to: Side | None,
    *,
    once: bool,
    switched: bool | None = None,
    order: tuple[str, ...] = (),
    trouble: str = "",
) -> Standing:
    return Standing(
        sides.here,
        sides.firmware,
        to,
        once,
        bool(sides.state.order) if switched is None else switched,
        bool(sides.state.trial),
        order,
        trouble,
    )
