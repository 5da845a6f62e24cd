# SPDX-License-Identifier: GPL-3.0-or-later
"""The manifest of one generation: what each slot holds, and which blocks differ on purpose."""

from dataclasses import dataclass
from typing import Final

from core.model.copy import Fixups, Pair
from core.model.figures import RunFigures

VERSION: Final = 3
"""Format of the manifest; see docs/on-disk-format.md. Earlier versions
lack what has a default here."""


@dataclass(frozen=True, slots=True)
class SlotState:
    """One slot as its generation was committed: if these hashes differ, somebody wrote to it."""

    name: str
    mountpoint: str
    fstype: str
    number: int
    start: int
    size: int
    superblock: str
    """xxh3-128 of the superblock's file system block, in hex; empty where there is none."""
    journal: str
    """xxh3-128 of the journal's superblock, in hex; empty where there is none."""
    taken: str = ""
    """Its point in time where that is not the manifest's: it was left out of the last backups."""


@dataclass(frozen=True, slots=True)
class DigestFile:
    """A file of digests in the vault."""

    file: str
    hash: str
    """xxh3-128 of its header and of the heads of its sections, in hex; these hold checksums."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """One completed backup."""

    name: str
    txid: str
    """Transaction that made it: 32 hex digits."""
    generation: int
    parent: str
    """xxh3-128 of the parent manifest's bytes, in hex; empty for generation 1."""
    undo_log: str
    """File in the vault that leads back to the parent; empty for generation 1."""
    taken: str
    """The point in time of all volumes together, ISO 8601 with zone."""
    hostname: str
    kernel: str
    disk_guid: str
    slots: tuple[SlotState, ...]
    pairs: tuple[Pair, ...]
    fixups: tuple[Fixups, ...]
    figures: RunFigures
    digests: tuple[DigestFile, ...] = ()
    """Where the digests of its blocks are: a later file knows what those before it do not. The
    first one says which blocks count. Empty: there are none."""
