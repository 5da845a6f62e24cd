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
