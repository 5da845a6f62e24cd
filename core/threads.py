# SPDX-License-Identifier: GPL-3.0-or-later
"""Pools of threads that a signal cannot leave behind."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Final

from core.signals import deferred

_PATIENCE: Final = 60.0
"""Seconds; a machine that cannot start a few threads in that time is told so by an error."""


def started(count: int, name: str) -> ThreadPoolExecutor:
    """A pool whose `count` threads run already. For the main thread.

    A signal that unwinds while a thread is being started would lose it: CPython's pool notes a
    thread only after that, and then does not wait for it at its end. What it still writes would
    land behind the back of whoever goes back.
    """
    with deferred():
        pool = ThreadPoolExecutor(count, name)
        together = Barrier(count)
        for _ in range(count):  # each keeps its thread until all are there
            pool.submit(together.wait, _PATIENCE)
    return pool
