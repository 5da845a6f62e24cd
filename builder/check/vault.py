# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether what the vault keeps can be read back: manifests, undo logs, files of digests."""

from collections.abc import Iterator
from pathlib import Path

from builder.digests.format import Damaged
from builder.digests.store import Stored
from builder.vault import chain
from builder.vault.undoread import UndoLog
from core.errors import ReadFailed, UndoLogDamaged, UnknownFormat
from core.model.manifest import DigestFile, Manifest
from core.model.state import State
from core.screen import Advance


def size(vault: Path) -> int:
    """About how many bytes `damaged` reads."""
    files = (path for path in vault.iterdir() if path.name.startswith(("undo-", "digests-")))
    return sum(path.stat().st_size for path in files)


def damaged(vault: Path, state: State, advance: Advance) -> list[str]:
    """What is damaged, in sentences that say what is lost by it. Raises UnknownFormat, ReadFailed.

    The newest manifest itself must be readable: without it nothing is known at all.
    """
    with chain.readable(vault):
        known = chain.generations(vault, state)
    said: list[str] = []
    for manifest, older in zip(known, (*known[1:], None), strict=True):
        said += _log(vault, manifest, older, advance)
    files = dict.fromkeys(each for manifest in known for each in manifest.digests)
    for each in files:
        said += _digests(vault, each, advance)
    return said


def _log(vault: Path, child: Manifest, parent: Manifest | None, advance: Advance) -> Iterator[str]:
    path = vault / child.undo_log
    if not child.undo_log or not path.is_file():
        return  # the oldest one: what led back from it was dropped, for its room
    if parent is None:
        yield (
            f"The manifest of the backup before generation {child.generation} is damaged or "
            "missing: the way back ends there."
        )
        return
    try:
        with UndoLog(path) as log:
            for found in log.records(need_seal=True):
                advance(found.record.stored)
    except (UndoLogDamaged, UnknownFormat, ReadFailed, OSError):
        yield (
            f"The undo log {path.name} is damaged: there is no way back to generation "
            f"{parent.generation} and those before."
        )


def _digests(vault: Path, known: DigestFile, advance: Advance) -> Iterator[str]:
    said = f"The digests in {known.file} are damaged: some blocks cannot be verified."
    try:
        stored = Stored(vault, known)
    except (Damaged, UnknownFormat, OSError):
        yield said
        return
    try:
        for slot in stored.slots:
            for window in sorted(stored.windows(slot)):
                advance(8 * len(stored.window(slot, window).blocks))
    except (Damaged, OSError):
        yield said
    finally:
        stored.close()
