# SPDX-License-Identifier: GPL-3.0-or-later
"""Lets a person go back to an older copy in the rescue system, before the copy is first started."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from builder.vault import chain, mend, recovery
from builder.vault.replay import SlotPath
from core.errors import ChainClosed
from core.model.manifest import Manifest
from core.model.state import State
from core.screen import moment
from recovery.consoles import ConsoleScreen
from recovery.menu import ask

BOOTED: Final = (
    "The copy has been started since its last backup: the older ones do not fit it any more. It "
    "can only be started as it is."
)
NONE: Final = "This disk holds no older copy: there is only that of {taken}."
QUESTION: Final = "Which copy shall be started?"
SURE: Final = (
    "The copy of {to} will be started. What is newer, up to {newest}, is deleted from this "
    "disk for good. Go on?"
)
_MOST: Final = 9
"""As many as have a number key."""


def go_back(
    disk: str, state_at: int, state: State, vault: str, slot_path: SlotPath, screen: ConsoleScreen
) -> State | None:
    """Ask which generation the disk is to hold, and make it so; None: the person chose none.

    `state`: `clean`. `vault`: its device. Raises ChainClosed and what `roll_back` does.
    """
    if state.booted:
        raise ChainClosed(BOOTED)
    mend.check(vault)
    with mend.vault_at(vault) as folder:
        to = _chosen(folder, state, slot_path, screen)
        if to is None:
            return None
        screen.step(f"Going back to the copy of {moment(to.taken)}. Please wait.")
        return recovery.roll_back(disk, state_at, folder, state, to.generation, slot_path, screen)


def _chosen(
    vault: Path, state: State, slot_path: SlotPath, screen: ConsoleScreen
) -> Manifest | None:
    with chain.readable(vault):
        known = chain.generations(vault, state)[: _MOST - 1]
    if len(known) < 2:
        screen.warn(NONE.format(taken=moment(state.taken)))
        return None
    try:
        recovery.way_back(vault, state, known[-1].generation, slot_path)
    except ChainClosed as reason:
        raise ChainClosed(BOOTED) from reason
    while True:
        picked, _ = ask(screen, QUESTION, offered(known, datetime.now(UTC)))
        if not picked or picked >= len(known):
            return known[0] if picked == 0 else None
        to = known[picked]
        words = SURE.format(to=moment(to.taken), newest=moment(known[0].taken))
        yes = f"Yes, start that of {moment(to.taken)}"
        sure, _ = ask(screen, words, ("No, back to the list", yes))
        if sure == 1:
            return to


def offered(known: Sequence[Manifest], now: datetime) -> list[str]:
    """A line for each generation, the newest first, and one to leave it. Pure."""
    lines = [
        f"Backup {each.generation} of {moment(each.taken)}{_age(each.taken, now)}"
        + (", the newest" if number == 0 else "")
        for number, each in enumerate(known)
    ]
    return [*lines, "None of these"]


def _age(taken: str, now: datetime) -> str:
    """How old that is; nothing where this machine's clock must be wrong."""
    seconds = (now - datetime.fromisoformat(taken)).total_seconds()
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if (count := int(seconds // length)) >= 1:
            return f", {count} {unit}{'s' if count > 1 else ''} old"
    return ""
