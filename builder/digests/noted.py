# SPDX-License-Identifier: GPL-3.0-or-later
"""Gathers the digests of what a run writes, or finds equal, in the order in which that happens.

What does not fit into a little memory goes to a file in the vault that has no name: whatever ends
the run takes it along.
"""

import errno
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from threading import Lock
from typing import IO, Final

import numpy as np

from builder.digests.blocks import (
    BLOCK,
    NOTHING,
    WINDOW,
    Digested,
    Digests,
    Numbers,
    digests,
    newest,
)
from core.model.blockset import BlockSet

LOT: Final = 1 << 17
"""Digests that are kept in memory: 2 MiB, and three times that while they are sorted."""
_SLOT: Final = 48
"""Bits of a block's number; the slot's stands above."""


@dataclass(frozen=True, slots=True)
class _Lot:
    """Sorted digests in a file: the numbers of the blocks, then their digests."""

    at: int
    count: int
    windows: dict[int, tuple[int, int]]
    """First and end of what belongs to each window."""


class Noted:
    """Digests of several slots, by their index; any thread may add some."""

    def __init__(self, folder: Path) -> None:
        self.more_room: Callable[[], bool] = lambda: False
        """Asked when the vault is full; True: something was dropped."""
        self._folder = folder
        self._lock = Lock()
        self._keys: Numbers = np.empty(LOT, np.int64)
        self._values: Digests = np.empty(LOT, np.uint64)
        self._count = 0
        self._lots: list[_Lot] = []
        self._file: IO[bytes] | None = None
        self._end = 0
        self._unsure: dict[int, list[tuple[int, int]]] = {}
        self._settled = NOTHING
        self.closed = False

    def add(self, slot: int, offset: int, view: memoryview, size: int) -> None:
        """The slot, of `size` bytes, holds `view` at `offset` from now on. Raises OSError."""
        first = -(-offset // BLOCK)
        end = offset + len(view)
        last = -(-end // BLOCK) if end == size else end // BLOCK
        if first * BLOCK != offset or (end % BLOCK and end != size):
            with self._lock:  # blocks of which only a part is known
                self._unsure.setdefault(slot, []).extend(
                    (at // BLOCK, at // BLOCK + 1) for at in (offset, end - 1)
                )
        if last <= first:
            return
        found = digests(view[first * BLOCK - offset : min(last * BLOCK, end) - offset])
        with self._lock:
            done = 0
            while done < len(found) and not self.closed:
                if self._count == LOT:
                    self._spill()
                some = min(len(found) - done, LOT - self._count)
                here = slice(self._count, self._count + some)
                begin = (slot << _SLOT) + first + done
                self._keys[here] = np.arange(begin, begin + some)
                self._values[here] = found[done : done + some]
                self._count += some
                done += some

    def unsure(self, slot: int) -> BlockSet:
        """Blocks, counted as such, of which only a part was written at once."""
        return BlockSet.of(self._unsure.get(slot, []))

    def settle(self) -> None:
        """Sort what is in memory, to be looked at; what is added later is not seen before the next.

        To be called by one thread, while nobody adds.
        """
        self._settled = self._sorted()

    def windows(self, slot: int) -> set[int]:
        """The windows of a slot of which something is known; after `settle`."""
        found = {key for lot in self._lots for key in lot.windows}
        found.update(np.unique(self._settled.blocks // WINDOW).tolist())
        bits = _SLOT - WINDOW.bit_length() + 1
        return {key & ((1 << bits) - 1) for key in found if key >> bits == slot}

    def window(self, slot: int, number: int) -> Digested:
        """What is known of one window, as it was noted last; after `settle`. Raises OSError."""
        begin = (slot << _SLOT) + number * WINDOW
        low, high = np.searchsorted(self._settled.blocks, (begin, begin + WINDOW))
        parts = [Digested(self._settled.blocks[low:high], self._settled.digests[low:high])]
        parts += [
            self._read(lot, *here)
            for lot in reversed(self._lots)
            if (here := lot.windows.get(begin // WINDOW))
        ]
        found = newest(parts)
        return Digested(found.blocks - (slot << _SLOT), found.digests)

    @property
    def count(self) -> int:
        """About how many digests there are; after `settle`."""
        return len(self._settled.blocks) + sum(lot.count for lot in self._lots)

    def close(self) -> None:
        """Nothing is kept from now on, and what was is gone."""
        with self._lock:
            self.closed = True
            if self._file is not None:
                self._file.close()

    def _sorted(self) -> Digested:
        """What is in memory, each block once."""
        keys = self._keys[: self._count][::-1]  # the last one counts
        blocks, at = np.unique(keys, return_index=True)
        return Digested(blocks, self._values[: self._count][::-1][at])

    def _spill(self) -> None:
        if self._file is None:
            # See close.
            self._file = tempfile.TemporaryFile(dir=self._folder, buffering=0)  # noqa: SIM115
        found = self._sorted()
        keys, first = np.unique(found.blocks // WINDOW, return_index=True)
        bounds = np.append(first, len(found.blocks)).tolist()
        places = dict(zip(keys.tolist(), pairwise(bounds), strict=True))
        data, at = memoryview(b"".join(array.tobytes() for array in found)), self._end
        while data:
            try:
                done = os.pwrite(self._file.fileno(), data, at)
            except OSError as error:
                if error.errno != errno.ENOSPC or not self.more_room():
                    raise
                continue
            data, at = data[done:], at + done
        self._lots.append(_Lot(self._end, len(found.blocks), places))
        self._end = at
        self._count = 0

    def _read(self, lot: _Lot, first: int, end: int) -> Digested:
        places = (lot.at + 8 * first, lot.at + 8 * (lot.count + first))
        blocks, values = (self._load(at, 8 * (end - first)) for at in places)
        return Digested(np.frombuffer(blocks, np.int64), np.frombuffer(values, np.uint64))

    def _load(self, at: int, size: int) -> bytes:
        if self._file is None:
            raise ValueError("nothing was put into a file")
        data = os.pread(self._file.fileno(), size, at)
        if len(data) < size:
            raise OSError(errno.EIO, "it ends too early")
        return data
