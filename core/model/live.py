# SPDX-License-Identifier: GPL-3.0-or-later
"""What is copied where, for the live copy: the engine knows no more of a volume than this."""

from dataclasses import dataclass

from core.model.blockset import BlockSet


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


@dataclass(frozen=True, slots=True)
class Instant:
    """The point in time that all slots now show, but for their identity blocks."""

    taken: float
    """Seconds since the epoch."""
    passes: int
    stall_seconds: float
    """The longest that a writer can have waited: freeze to thaw."""
    bytes_examined: int
    bytes_written: int
    identity: dict[str, tuple[tuple[int, bytes], ...]]
    """By slot: the identity blocks of the volume at that instant, `(offset, content)`; they were
    not written."""
    used: dict[str, BlockSet]
    """By slot: the used blocks at that instant."""
