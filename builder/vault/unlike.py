# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a slot is not as its backup left it: somebody worked on the copy, or the disk is at fault.

A mount writes a superblock that no manifest knows, with a checksum that is right. One that an
earlier manifest knows, or the zeros that an update begins with, are what a disk shows that lost
writes which it had confirmed. Anything else is damage. Work must not be lost, so what can be told
from it in no other way counts as work.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, Literal

from builder.change import superblock
from builder.copying.direct import Reader, buffer
from builder.vault import fingerprint, manifests, mend
from core.errors import CannotCopyFileSystem
from core.model.manifest import Manifest, SlotState
from core.model.state import State
from core.record import Record

Why = Literal["work", "lost", "damage"]

LOST: Final = (
    "The DPSR disk has lost writes that it had confirmed: {what}. Its cache, its cable or its "
    "power is at fault: look at `smartctl -a`, and replace the disk should this come again."
)
DAMAGED: Final = (
    "The DPSR disk is damaged: {what}. Nobody has worked on the copy; look at `smartctl -a`, and "
    "replace the disk should this come again."
)
HEALS: Final = "Everything is compared now, which heals the copy"
WORKED: Final = (
    "The copy was booted or written to since its backup: the way back is closed. `dpsr update` "
    "makes the next generation."
)


@dataclass(frozen=True, slots=True)
class Unlike:
    """A slot that is not as its backup left it."""

    slot: str
    mountpoint: str
    why: Why


def examine(vault: Path, last: Manifest, path: Callable[[int], str]) -> tuple[Unlike, ...]:
    """The slots that are not as `last`, the newest manifest, says; `path` by partition number.

    Raises ReadFailed, OSError (of the vault).
    """
    found = []
    earlier: list[Manifest] | None = None
    for slot in last.slots:
        if not slot.superblock:
            continue
        block, seen = _seen(path(slot.number))
        if seen == (slot.superblock, slot.journal):
            continue
        if earlier is None:
            earlier = [each for each in manifests.readable(vault) if each.txid != last.txid]
        before = [one for each in earlier for one in each.slots if one.name == slot.name]
        found.append(Unlike(slot.name, slot.mountpoint, why(block, seen, slot, before)))
    return tuple(found)


def why(
    block: bytes, seen: tuple[str, str], wanted: SlotState, earlier: Collection[SlotState]
) -> Why:
    """What a slot tells whose superblock is `block` and has the hashes `seen`. Pure."""
    if not any(block):
        return "lost"
    if not is_whole(block):
        # A mount writes the journal's first block, too: what rots leaves that alone.
        known = {"", wanted.journal, *(each.journal for each in earlier)}
        return "damage" if seen[1] in known else "work"
    if seen[0] == wanted.superblock:  # no mount leaves that as it was
        return "lost" if seen[1] in {each.journal for each in earlier} - {""} else "damage"
    return "lost" if seen[0] in {each.superblock for each in earlier} else "work"


def is_whole(block: bytes) -> bool:
    """Whether a superblock (1,024 bytes) is one of ext4, with its checksum right if it has one."""
    try:
        superblock.parse(block, "the slot")
    except CannotCopyFileSystem:
        return False
    return mend.is_whole(block)


def older(state: State, known: Record | None) -> str:
    """In what the disk is older than this machine's record of it, in a few words; else empty. Pure.

    A record without counters is that of a way back, which may have ended without us.
    """
    if known is None or known.counters is None or state.booted or state.txid == known.txid:
        return ""
    if datetime.fromisoformat(state.taken) >= datetime.fromisoformat(known.taken):
        return ""
    return f"it is back at generation {state.gen}, and generation {known.generation} was complete"


def faults(unlike: Iterable[Unlike], lost: Sequence[str]) -> tuple[str, ...]:
    """What a person should know of the disk, a sentence or two each; `lost`: what else it lost."""
    known = tuple(unlike)

    def places(reason: Why) -> list[str]:
        return [each.mountpoint for each in known if each.why == reason]

    said = [*lost]
    if gone := places("lost"):
        said.append(f"the superblock of {', '.join(gone)} is not that of the last backup")
    sentences = [LOST.format(what="; ".join(said))] if said else []
    if rotten := places("damage"):
        sentences.append(DAMAGED.format(what=f"the superblock of {', '.join(rotten)} is no more"))
    return tuple(sentences)


def closed(unlike: Iterable[Unlike], *, booted: bool) -> str:
    """Why no undo log leads back from what the slots hold; empty: they do."""
    known = tuple(unlike)
    if booted or any(each.why == "work" for each in known):
        return WORKED
    said = faults(known, ())
    return f"{' '.join(said)} The way back is closed; `dpsr update` heals the copy." if said else ""


def _seen(device: str) -> tuple[bytes, tuple[str, str]]:
    """The superblock, and the hashes that a manifest has of it and of the journal's."""
    with closing(Reader(device)) as slot:
        view = buffer(superblock.AT + superblock.SIZE + 2048)
        slot.read_into(0, view)
        block = bytes(view[superblock.AT : superblock.AT + superblock.SIZE])
        try:
            return block, fingerprint.of_ext4(slot)
        except CannotCopyFileSystem:
            return block, ("", "")
