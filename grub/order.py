# SPDX-License-Identifier: GPL-3.0-or-later
"""Where "DPSR recovery" stands among the firmware's boot entries, and how it gets there.

Directly after the last entry of the primary: behind a shell or network boot a machine whose
primary is dead would stop there, before the primary it would start the copy every day.
"""

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from core.errors import BootOrderFailed
from grub.efibootmgr import BootManager, Efibootmgr
from grub.nvram import Entry, Nvram

LABEL: Final = "DPSR recovery"
LOADER: Final = "\\EFI\\BOOT\\BOOTX64.EFI"

_STOPS: Final = frozenset({"shell", "network", "removable"})
"""Ways that end in something else than the next entry."""
_MOST: Final = 24
"""Steps after which a firmware is given up that undoes each of them in another way."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What the firmware shall hold."""

    control: str
    """Partition GUID of the DPSR disk's control partition."""
    primary: frozenset[str]
    """Partition GUIDs of the primary's disk."""
    others: frozenset[str] = frozenset()
    """Control partitions of other DPSR disks of this machine: their entries stay."""
    first: bool = False
    """The copy shall be started before the primary: `dpsr switch dpsr` was given."""
    keeps: bool = False
    """A copy knows of no other DPSR disk: it deletes nobody's entry but its own."""


@dataclass(frozen=True, slots=True)
class Delete:
    """A second entry of ours, or one that leads to a partition that is no more."""

    number: int

    def __str__(self) -> str:
        return f"remove the boot entry Boot{self.number:04X}"


@dataclass(frozen=True, slots=True)
class Create:
    """There is no entry of ours."""

    def __str__(self) -> str:
        return f'make the boot entry "{LABEL}"'


@dataclass(frozen=True, slots=True)
class Activate:
    """Our entry is there, and switched off."""

    number: int

    def __str__(self) -> str:
        return f"switch on the boot entry Boot{self.number:04X}"


@dataclass(frozen=True, slots=True)
class SetOrder:
    """Our entry stands in the wrong place."""

    order: tuple[int, ...]

    def __str__(self) -> str:
        return f"set the boot order to {','.join(f'{number:04X}' for number in self.order)}"


@dataclass(frozen=True, slots=True)
class SetNext:
    """The next start alone shall go elsewhere."""

    number: int

    def __str__(self) -> str:
        return f"start Boot{self.number:04X} next"


@dataclass(frozen=True, slots=True)
class ClearNext:
    """The next start shall go by the order."""

    def __str__(self) -> str:
        return "forget which entry to start next"


Step = Delete | Create | Activate | SetOrder | SetNext | ClearNext


def next_step(nvram: Nvram, wish: Wish) -> Step | None:
    """What to do next so that the firmware holds the wish; None when it does."""
    step = entry_step(nvram, wish)
    if isinstance(step, Entry):
        order = place(nvram, step.number, wish)
        return SetOrder(order) if order != nvram.order else None
    return step


def entry_step(nvram: Nvram, wish: Wish) -> Step | Entry:
    """What to do next so that there is one entry of ours that works; then, that entry."""
    ours = [entry for entry in nvram.entries if entry.label == LABEL]
    good = [entry for entry in ours if _leads_there(entry, wish)]
    # Of several, the one that the firmware has in its order already.
    kept = next((entry for entry in good if entry.number in nvram.order), next(iter(good), None))
    for entry in ours:
        foreign = wish.keeps and entry.partuuid != wish.control
        if entry is not kept and entry.partuuid not in wish.others and not foreign:
            return Delete(entry.number)
    if kept is None:
        return Create()
    return kept if kept.active else Activate(kept.number)


def place(nvram: Nvram, number: int, wish: Wish) -> tuple[int, ...]:
    """BootOrder with entry `number` directly after the primary's last one, all else as it was.

    The primary's last entry is sought up to the first shell, network or removable medium behind
    its first one: what comes later (a firmware updater, say) would not be reached by itself. A
    machine that boots from the network first keeps that. Entries that do not exist are left out:
    firmware does not accept them.
    """
    known = [found for n in nvram.order if n != number and (found := nvram.entry(n)) is not None]
    if wish.first:
        return (number, *(entry.number for entry in known))
    primary = of_primary(nvram, wish)
    at = 0
    begun = False
    for index, entry in enumerate(known):
        if entry in primary:
            begun = True
            at = index + 1
        elif begun and entry.way in _STOPS:
            break
    if not begun:  # then before all that would stop the machine
        at = next((i for i, entry in enumerate(known) if entry.way in _STOPS), len(known))
    numbers = [entry.number for entry in known]
    return (*numbers[:at], number, *numbers[at:])


def of_primary(nvram: Nvram, wish: Wish) -> tuple[Entry, ...]:
    """The entries in the order that start the primary, by its partitions.

    If there are none, the one that started this system, if that is a disk: firmware's own entries
    for a whole disk name no partition.
    """
    known = [found for n in nvram.order if (found := nvram.entry(n)) is not None]
    by_partition = tuple(entry for entry in known if entry.partuuid in wish.primary)
    return by_partition or tuple(
        entry for entry in known if entry.number == nvram.current and entry.way == "other"
    )


def ensure_entry(
    disk: str,
    part_number: int,
    control_partuuid: str,
    primary_partuuids: Collection[str],
    *,
    others: Collection[str] = (),
    first: bool = False,
    manager: BootManager | None = None,
) -> list[str]:
    """Give the DPSR disk its entry in its place, and read it back; again does nothing.

    Returns warnings, one sentence each; none when the firmware holds what was wished. It never
    fails: the copy can be chosen in the firmware's boot menu all the same.
    """
    wish = Wish(
        control_partuuid.lower(),
        frozenset(uuid.lower() for uuid in primary_partuuids),
        frozenset(uuid.lower() for uuid in others),
        first,
    )
    firmware = manager or Efibootmgr()
    try:
        nvram = bring_about(firmware, disk, part_number, lambda nvram: next_step(nvram, wish))
    except BootOrderFailed as error:
        return [f"{error} {error.hint}"]
    if not of_primary(nvram, wish):
        return [
            (
                f'No boot entry of the primary was found; "{LABEL}" stands before the shell, '
                "network boot and removable media. Look at the order in the firmware's setup."
            )
        ]
    return []


def remove_entry(control_partuuid: str, *, manager: BootManager | None = None) -> list[str]:
    """Take the entry of a DPSR disk out of the firmware; all other entries stay as they are.

    Returns warnings, one sentence each, and never fails. Without UEFI there is nothing to do.
    """
    if manager is None and not os.path.isdir("/sys/firmware/efi"):
        return []
    firmware = manager or Efibootmgr()
    try:
        for number in _ours(firmware.read(), control_partuuid):
            firmware.delete(number)
        left = _ours(firmware.read(), control_partuuid)
    except BootOrderFailed as error:
        return [f'{error} Remove "{LABEL}" in the firmware\'s setup.']
    return [f"The firmware did not give up the boot entry Boot{number:04X}." for number in left]


def _ours(nvram: Nvram, control_partuuid: str) -> list[int]:
    return [
        entry.number
        for entry in nvram.entries
        if entry.label == LABEL and entry.partuuid == control_partuuid.lower()
    ]


def bring_about(
    firmware: BootManager, disk: str, part: int, decide: Callable[[Nvram], Step | None]
) -> Nvram:
    """Take the steps that `decide` names, reading everything again after each; return the end.

    `disk`, `part`: path and number of the control partition. Raises BootOrderFailed.
    """
    done: set[Step] = set()
    while True:
        nvram = firmware.read()
        step = decide(nvram)
        if step is None:
            return nvram
        if step in done or len(done) == _MOST:
            raise BootOrderFailed(f"The firmware was told to {step}, and did not keep it.")
        done.add(step)
        match step:
            case Delete(number):
                firmware.delete(number)
            case Create():
                firmware.create(disk, part, LABEL, LOADER)
            case Activate(number):
                firmware.activate(number)
            case SetOrder(order):
                firmware.set_order(order)
            case SetNext(number):
                firmware.set_next(number)
            case ClearNext():
                firmware.clear_next()


def _leads_there(entry: Entry, wish: Wish) -> bool:
    return entry.partuuid == wish.control and entry.loader.lower() == LOADER.lower()
