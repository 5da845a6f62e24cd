# SPDX-License-Identifier: GPL-3.0-or-later
"""Which disk the firmware starts next: once by BootNext, for good by BootOrder, and back. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from core.errors import NoWayThere
from grub.nvram import Entry, Nvram
from grub.order import (
    ClearNext,
    SetNext,
    SetOrder,
    Step,
    Wish,
    entry_step,
    of_primary,
    place,
)

Side = Literal["dpsr", "primary"]


@dataclass(frozen=True, slots=True)
class Turn:
    """What shall be started."""

    to: Side
    once: bool = False
    """The next start alone."""
    found: tuple[int, ...] = ()
    """To the primary: BootOrder as it was before it was switched; empty: not known."""


def next_step(nvram: Nvram, wish: Wish, turn: Turn) -> Step | None:
    """What to do next so that the firmware makes the turn; None when it does.

    Raises NoWayThere: no entry starts the primary.
    """
    step = entry_step(nvram, wish)
    if not isinstance(step, Entry):
        return step
    if turn.once:
        if step.number not in nvram.order:  # firmware may drop what is in no order
            return SetOrder(place(nvram, step.number, wish))
        number = step.number if turn.to == "dpsr" else _primary(nvram, wish)
        return SetNext(number) if nvram.next != number else None
    if turn.to == "dpsr":
        order = (step.number, *(n for n in _known(nvram, nvram.order) if n != step.number))
        against = {entry.number for entry in of_primary(nvram, wish)}
    else:
        order = _back(nvram, step.number, wish, turn.found)
        against = {step.number}
    if order != nvram.order:
        return SetOrder(order)
    return ClearNext() if nvram.next in against else None


def starts_next(nvram: Nvram, wish: Wish) -> Side | None:
    """Where the next start goes by itself; None: neither to the copy nor to the primary."""
    switched_on = (n for n in nvram.order if (entry := nvram.entry(n)) is not None and entry.active)
    number = nvram.next if nvram.next is not None else next(switched_on, None)
    entry = nvram.entry(number) if number is not None else None
    if entry is None:
        return None
    if entry.partuuid == wish.control:
        return "dpsr"
    return "primary" if entry in of_primary(nvram, wish) else None


def as_text(order: Iterable[int]) -> str:
    """A boot order as efibootmgr writes it: `0000,0003`."""
    return ",".join(f"{number:04X}" for number in order)


def from_text(text: str) -> tuple[int, ...]:
    """The order again; empty when the text is none."""
    try:
        return tuple(int(number, 16) for number in text.split(",") if number)
    except ValueError:
        return ()


def _primary(nvram: Nvram, wish: Wish) -> int:
    """The entry that starts the primary: the first of them in the order."""
    found = of_primary(nvram, wish)
    if not found:
        raise NoWayThere("The firmware has no entry that starts the primary. Nothing was changed.")
    return found[0].number


def _back(nvram: Nvram, ours: int, wish: Wish, found: tuple[int, ...]) -> tuple[int, ...]:
    """The order that was found, without entries that are no more, new ones behind it."""
    order = _known(nvram, (*found, *(n for n in nvram.order if n not in {*found, ours})))
    if ours in order:
        return order
    then = Nvram(nvram.current, nvram.next, order, nvram.entries)
    return place(then, ours, wish)


def _known(nvram: Nvram, order: Iterable[int]) -> tuple[int, ...]:
    return tuple(n for n in dict.fromkeys(order) if nvram.entry(n) is not None)
