# SPDX-License-Identifier: GPL-3.0-or-later
"""Waits for a moment without writes: a database that has just come to rest is easier to revive."""

import time
from collections.abc import Callable, Iterable
from typing import Final, Protocol

_LOOK: Final = 0.05
"""Seconds between two looks."""


class Watcher(Protocol):
    """What is needed of the tracker."""

    def poll(self) -> None: ...

    def last_write(self, name: str) -> float: ...


def wait_until_quiet(
    tracker: Watcher,
    names: Iterable[str],
    quiet_for: float,
    deadline: float,
    busy: Callable[[], bool],
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """Return True when no volume was written to for `quiet_for` seconds.

    False at `deadline` (on `clock`), or as soon as `busy` says that there is other work first.
    """
    watched = tuple(names)
    while True:
        tracker.poll()
        now = clock()
        rest = max(map(tracker.last_write, watched)) + quiet_for - now
        if rest <= 0:
            return True
        if now >= deadline or busy():
            return False
        sleep(min(rest, deadline - now, _LOOK))
