# SPDX-License-Identifier: GPL-3.0-or-later
"""What is copied where, for the live copy: the engine knows no more of a volume than this."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from core.model.blockset import BlockSet


@dataclass(frozen=True, slots=True)
class Earlier:
    """What is known of a slot from the last backup."""

    always: BlockSet
    """Compared whatever the file system says: the fix-ups of the last manifest, and what were
    active swap files then (`Instant.swap`)."""
    mounts: int | None = None
    """How often the volume must have been mounted by now, when it did not crash since; None: not
    known."""
    full: bool = False
    """Compare everything: `--full`, or the copy was booted."""
    digested: bool = True
    """There are digests of its blocks; else everything is compared, to make them."""


@dataclass(frozen=True, slots=True)
class Source:
    """One volume as the copier reads it."""

    name: str
    """Of its slot."""
    mountpoint: str
    device: str
    """Read with O_DIRECT: /dev/sda2, or an image file in tests and benchmarks."""
    tracked: tuple[int, int]
    """Device number under which the kernel's block events show its writes."""
    offset: int
    """Where it begins, in the coordinates of those events."""
    size: int
    target: str
    """Its slot's device."""
    fstype: str = "ext4"
    earlier: Earlier | None = None
    """None: nothing is known of the slot, as in `prepare`."""
    compared: Callable[[Sequence[tuple[int, int]], memoryview, BlockSet], None] | None = None
    """Is told of ranges that were compared, what is there, and what of it differs."""


@dataclass(frozen=True, slots=True)
class Found:
    """How much of one volume an update is about to change, before it writes anything."""

    differs: int
    """Bytes; each was compared, but for what was written meanwhile."""
    used: int
    """Bytes in use, without active swap files."""


@dataclass(frozen=True, slots=True)
class Instant:
    """The point in time that all slots now show, but for their identity blocks.

    The dictionaries are by name of the slot.
    """

    taken: float
    """Seconds since the epoch."""
    passes: int
    stall_seconds: float
    """The longest that a writer can have waited: freeze to thaw."""
    bytes_examined: int
    bytes_written: int
    identity: dict[str, tuple[tuple[int, bytes], ...]]
    """The identity blocks of the volume at that instant, `(offset, content)`; they were not
    written."""
    used: dict[str, BlockSet]
    """The used blocks at that instant."""
    swap: dict[str, BlockSet] = field(default_factory=dict)
    """Active swap files at that instant: they were not copied."""
    detectors: dict[str, str] = field(default_factory=dict)
    """`ext4` or `compare`; `used` when all used blocks were written without a look at the slot."""
    mounts: dict[str, int] = field(default_factory=dict)
    """How often the volume had been mounted, by its superblock: s_mnt_count, modulo 65,536."""
    found: dict[str, Found] = field(default_factory=dict)
    """What an update found before it began to write."""
