# SPDX-License-Identifier: GPL-3.0-or-later
"""`dpsr guard`: lets GRUB start the DPSR disk by itself when the primary fails again and again."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from builder.hiding import shown
from core import settings
from core.errors import GuardImpossible, NotPrepared, RunningFromCopy
from core.files import LOCK, lock
from core.machine.look import look
from core.model.machine import Machine
from core.namespace import go_private
from core.screen import Screen
from grub.guard import MOST, Facts, PrimaryGuard
from grub.primary import PrimaryMenu
from recovery.sides import find_sides
from recovery.switch import refuse_incomplete

COUNTER: Final = "guard.env"
BESIDE_GRUB: Final = "/boot/grub/dpsr-guard.env"
GOOD: Final = Path("/run/dpsr/good-start")
"""Says to dpsr-guard-emergency.service that this start was a good one."""
_ESPS: Final = ("/boot/efi", "/efi", "/boot")
ON_COPY: Final = "Run it on the primary. `dpsr switch primary` lets the guard try that one again."


@dataclass(frozen=True, slots=True)
class Watch:
    """What `dpsr guard status` says."""

    on: bool
    tries: int = 0
    left: int | None = None
    """Starts that are left before the DPSR disk is started; None: off, or not to be read."""
    over: bool = False
    """It has acted: the DPSR disk is started each time, until a person decides."""


def guard_on(name: str, tries: int, screen: Screen, guard: PrimaryGuard | None = None) -> Watch:
    """Switch it on. Raises GuardImpossible, CopyNotComplete, CannotWrite."""
    chosen = guard or PrimaryGuard()
    with lock(LOCK, "guard"), shown(screen, name):
        go_private()
        sides = find_sides(settings.load(), name)
        if sides.here == "dpsr":
            raise RunningFromCopy("This system runs from the DPSR disk.", ON_COPY)
        refuse_incomplete(sides)
        refuse_others(chosen.menu)
        known = next(each for each in sides.sets if each.name == name)
        # This start was a good one: what restarts the machine after failed ones has to know.
        GOOD.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        GOOD.touch()
        chosen.on(place_of(look(), tries, known.control_uuid, chosen.menu.why_read_only()))
    return status(chosen)


def refuse_others(menu: PrimaryMenu) -> None:
    """Raise GuardImpossible where GRUB's menu starts other systems: it would count those, too."""
    try:
        text = menu.config.read_text("utf-8", "surrogateescape")
    except OSError:
        return  # what is in the way there is found out later
    if "osprober-" in text:
        raise GuardImpossible(
            "GRUB's menu starts other systems, too: each of their starts would count as a failed "
            "one of this. Nothing was changed."
        )


def guard_off(guard: PrimaryGuard | None = None) -> None:
    """Switch it off; again does nothing. Raises CannotWrite."""
    with lock(LOCK, "guard"):
        (guard or PrimaryGuard()).off()


def reset(guard: PrimaryGuard | None = None) -> Watch:
    """A person says that the primary is well again. Raises NotPrepared, CannotWrite."""
    chosen = guard or PrimaryGuard()
    if not chosen.reset():
        raise NotPrepared("The guard is off.", "Switch it on with `dpsr guard on`.")
    return status(chosen)


def good_start(guard: PrimaryGuard | None = None) -> bool:
    """The system has started: run by dpsr-guard-good.service. False: it stays failed over."""
    GOOD.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    GOOD.touch()
    return (guard or PrimaryGuard()).reset(only_good=True)


def status(guard: PrimaryGuard | None = None) -> Watch:
    """What the guard does now. Writes nothing."""
    chosen = guard or PrimaryGuard()
    facts = chosen.facts()
    if facts is None:
        return Watch(on=False)
    return Watch(on=True, tries=facts.tries, left=chosen.left(), over=chosen.over())


def place_of(machine: Machine, tries: int, control: str, beside: str | None) -> Facts:
    """Where GRUB can keep its counter: the ESP, or beside its own files on a plain /boot. Pure.

    `beside`: why it cannot write there; None: it can. Raises GuardImpossible.
    """
    if not 0 < tries <= MOST:
        raise GuardImpossible(f"{tries} tries: it must be from 1 to {MOST}.")
    if machine.firmware == "uefi":
        for folder in _ESPS:
            mount = machine.mount_at(folder)
            part = machine.partition(mount.source) if mount else None
            if part is not None and part.fstype == "vfat" and part.uuid:
                return Facts(tries, control, f"{folder}/EFI/dpsr/{COUNTER}", part.uuid)
        raise GuardImpossible(
            "The ESP is not mounted at /boot/efi, or lies on no plain partition: GRUB has no place "
            "to count. Nothing was changed."
        )
    if beside is not None:
        raise GuardImpossible(
            f"GRUB cannot write to /boot/grub ({beside}): it has no place to count. Nothing was "
            "changed."
        )
    return Facts(tries, control, BESIDE_GRUB)
