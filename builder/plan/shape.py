# SPDX-License-Identifier: GPL-3.0-or-later
"""How a system's file systems have come, gone or grown since its DPSR disk was laid out. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

from core.screen import human


@dataclass(frozen=True, slots=True)
class Shape:
    """What the DPSR disk does not fit any more; all empty: it fits."""

    new: tuple[str, ...] = ()
    """Mount points that `prepare` would copy today, and that have no slot."""
    gone: tuple[str, ...] = ()
    """Mount points that have a slot, and are neither mounted nor in /etc/fstab."""
    grown: tuple[tuple[str, int, int], ...] = ()
    """Mount point, size of its file system and of its slot, in bytes."""

    def __bool__(self) -> bool:
        return bool(self.new or self.gone or self.grown)

    def sentences(self) -> Iterator[str]:
        """Each change, for people."""
        for place in self.new:
            yield f"{place} is new and has no place on the DPSR disk: it is not copied."
        for place in self.gone:
            yield f"{place} went away; the DPSR disk keeps what it held."
        for place, size, slot in self.grown:
            yield (
                f"{place} has grown to {human(size)}; its place on the DPSR disk has {human(slot)}."
            )
