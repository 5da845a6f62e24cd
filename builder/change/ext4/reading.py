# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads many small pieces of two devices at once: threads keep both disks busy.

A piece that is alone costs a disk the same whatever its size, so pieces are read as they lie,
neighbours together, several at a time.
"""

import signal
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, Self

import numpy as np

from builder.change.detector import Readable
from builder.change.ext4.extents import Words
from builder.change.ext4.gather import Numbers
from builder.copying.direct import buffer

_THREADS: Final = 8
_SLICE: Final = 32
"""Runs that one thread reads before it takes up the next lot."""


class Reading:
    """Threads that read, within its context; outside of it the caller's own thread reads."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self.examined = 0
        """Bytes that were read so far."""

    def __enter__(self) -> Self:
        self._pool = ThreadPoolExecutor(_THREADS, "detector", initializer=_heed_no_signals)
        return self

    def __exit__(self, *_: object) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(cancel_futures=True)

    def begin(
        self, device: Readable, offsets: Numbers, unit: int, room: memoryview
    ) -> list["Future[None]"]:
        """Start to read `unit` bytes from each of `offsets` into `room`, one behind the other.

        `wait` for what is returned before looking.
        """
        self.examined += len(offsets) * unit
        if len(offsets) == 0:
            return []
        breaks = np.flatnonzero(np.diff(offsets) != unit) + 1
        firsts = np.concatenate(([0], breaks))
        lasts = np.concatenate((breaks, [len(offsets)]))
        runs = [
            (start, room[first * unit : last * unit])
            for start, first, last in zip(
                offsets[firsts].tolist(), firsts.tolist(), lasts.tolist(), strict=True
            )
        ]
        if self._pool is None:
            _fill(device, runs)
            return []
        return [
            self._pool.submit(_fill, device, runs[at : at + _SLICE])
            for at in range(0, len(runs), _SLICE)
        ]

    def fetch(self, device: Readable, offsets: Numbers, unit: int) -> memoryview:
        """The pieces of `unit` bytes at `offsets`, one behind the other."""
        room = buffer(max(1, len(offsets)) * unit)
        wait(self.begin(device, offsets, unit, room))
        return room

    def words(self, device: Readable, blocks: Numbers, size: int) -> Words:
        """The content of some blocks of `size` bytes as 32-bit words, one row each."""
        room = self.fetch(device, blocks * size, size)
        return np.frombuffer(room, "<u4", len(blocks) * size // 4).reshape(-1, size // 4)


def wait(tasks: Sequence["Future[None]"]) -> None:
    """Return when all are done, even if one failed: then its exception is raised."""
    failed = [error for task in tasks if (error := task.exception()) is not None]
    if failed:
        raise failed[0]


def _fill(device: Readable, runs: Sequence[tuple[int, memoryview]]) -> None:
    for offset, view in runs:
        device.read_into(offset, view)


def _heed_no_signals() -> None:
    """Ending signals are for the main thread, which may defer them."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
