# SPDX-License-Identifier: GPL-3.0-or-later
"""Questions to a person on a terminal."""

import sys

from core.errors import NotConfirmed


def need_somebody(hint: str | None = None) -> None:
    """Raise NotConfirmed where nobody can answer."""
    if not sys.stdin.isatty():
        raise NotConfirmed("Nobody is there to answer. Nothing was changed.", hint)


def agreed(question: str) -> bool:
    """Ask, and return whether the answer was yes. Raises NotConfirmed where nobody is there."""
    need_somebody()
    sys.stderr.write(question)
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}
