# SPDX-License-Identifier: GPL-3.0-or-later
"""The generations on the DPSR disk: what each run did, and how far back the way leads."""

from dataclasses import dataclass
from pathlib import Path

from builder import trouble
from builder.hiding import shown
from builder.target import find_target
from builder.vault import chain
from builder.vault.mend import vault_unchanged
from core import settings
from core.files import LOCK, lock
from core.model.manifest import Manifest
from core.model.state import State
from core.namespace import go_private
from core.screen import Screen
from grub.state import read_state


@dataclass(frozen=True, slots=True)
class Generation:
    """One completed backup."""

    manifest: Manifest
    newest: bool
    log_size: int
    """Bytes of the undo log that leads from it to the one before; 0: there is none."""


def history(name: str, screen: Screen) -> tuple[Generation, ...]:
    """The generations of the set `name`, newest first, as far back as `dpsr rollback` could go.

    Writes nothing. Raises NotPrepared, CopyUnreachable, AlreadyRunning, RunningFromCopy.
    """
    with lock(LOCK, "history"), shown(screen, name):
        go_private()
        target = find_target(settings.load(), name)
        state = read_state(target.disk.path, target.known.state_offset)
        with (
            trouble.named(target.disk.path, target.disk.serial),
            vault_unchanged(target.vault) as vault,
        ):
            return generations_in(vault, state)


def generations_in(vault: Path, state: State) -> tuple[Generation, ...]:
    """What the mounted vault tells. Raises UnknownFormat, UndoLogDamaged, ReadFailed."""
    with chain.readable(vault):
        known = chain.generations(vault, state)
        return tuple(
            Generation(
                manifest,
                number == 0,
                (vault / manifest.undo_log).stat().st_size if number + 1 < len(known) else 0,
            )
            for number, manifest in enumerate(known)
        )
