# SPDX-License-Identifier: GPL-3.0-or-later
"""What the installer asked for."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Wish:
    """The options of `dpsr plan` and `dpsr prepare`."""

    name: str = "system"
    """Of the backup set."""
    volumes: tuple[str, ...] = ()
    """Mount points to copy besides those that are copied anyway."""
    exclude: tuple[str, ...] = ()
    """Mount points to leave out."""
    yes: bool = False
    """Nobody is going to be asked."""
    again: bool = False
    """The disk holds a complete copy already, and is to be laid out for the system as it is now."""


@dataclass(frozen=True, slots=True)
class How:
    """The options of `dpsr update`."""

    only: tuple[str, ...] = ()
    """Mount points to copy; none: all of the set."""
    full: bool = False
    """Compare every used block, whatever the file systems say."""
    accept_change: bool = False
    """However much changed."""
    discard_work: bool = False
    """What was done on the copy after a boot is given up."""
    bandwidth: int = 0
    """Bytes in a second; 0: as many as the disks give."""
