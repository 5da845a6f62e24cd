# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps a copy to so many bytes a second, so that it leaves the disks to others."""

import time
from collections.abc import Callable
from typing import Final

_SAVED: Final = 0.5
"""Seconds without work that may be made up for, at most."""


class Throttle:
    """`rate` is in bytes per second; 0: no limit."""

    def __init__(
        self,
        rate: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._rate = rate
        self._clock = clock
        self._sleep = sleep
        self._due = clock()

    @property
    def limited(self) -> bool:
        """Whether anybody ever waits."""
        return self._rate > 0

    def spend(self, count: int) -> None:
        """Wait until `count` more bytes may have been read or written."""
        if not self._rate:
            return
        now = self._clock()
        self._due = max(self._due, now - _SAVED) + count / self._rate
        if self._due > now:
            self._sleep(self._due - now)
