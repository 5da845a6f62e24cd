# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies byte ranges from one device to another: threads read ahead, the caller's thread writes.

One thread writes, in order, so that a writer may keep a log. Memory: a few buffers, whatever the
size of the disk.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import closing
from dataclasses import dataclass
from threading import Lock
from typing import Final, Self

import numpy as np

from builder.change.compare import differing
from builder.change.ext4.gather import Gatherer
from builder.copying.direct import Reader, Writer, buffer
from builder.copying.throttle import Throttle
from core.model.blockset import EMPTY, BlockSet
from core.screen import Advance
from core.threads import started

CHUNK: Final = 2 << 20
"""Bytes that are read at once."""
_DEPTH: Final = 8
_THREADS: Final = 8
"""A request that is alone costs a disk the same whatever its size."""
_BRIDGE: Final = 64 << 10
"""Gaps up to this long are read along: that is quicker than to leave them out."""
_NEAR: Final = 32 << 10
"""And gaps up to this long where what lies in them must not be written."""
_MOST_PIECES: Final = 64

Pieces = list[tuple[int, memoryview]]
"""Offset on the device, and what is there."""
Equal = Callable[[Sequence[tuple[int, int]], memoryview, BlockSet], None]
"""Is told of ranges that were compared, what is there, one behind the other, and what differs.
Called by any thread."""


class Room:
    """Memory in some pieces, of whole pages, handed out from the first to the last."""

    def __init__(self, views: Sequence[memoryview]) -> None:
        self._views = deque(views)
        self.left = sum(len(view) for view in views)
        """Bytes."""

    def take(self, most: int) -> memoryview:
        """The next `most` bytes, or what the piece has left. Raises IndexError: there are none."""
        first = self._views.popleft()
        if len(first) > most:
            self._views.appendleft(first[most:])
        self.left -= min(len(first), most)
        return first[:most]


@dataclass(slots=True)
class _Slab:
    """Room for one batch, and for its counterpart when it is compared."""

    ours: memoryview
    theirs: memoryview


class Copier:
    """Threads and buffers for any number of copies, one after the other. A context manager.

    `bandwidth` is how many bytes may be read and written in a second, both disks together; 0: as
    many as they can.
    """

    def __init__(self, bandwidth: int = 0) -> None:
        self._pool = started(_THREADS, "copier")
        self._aside = started(1, "copier-aside")
        self._turn = Lock()
        """Held by who uses the buffers."""
        self._slabs = [_Slab(buffer(CHUNK), memoryview(b"")) for _ in range(_DEPTH)]
        self.throttle = Throttle(bandwidth)
        """Who reads or writes much by other means waits for it, too."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._aside.shutdown(cancel_futures=True)
        self._pool.shutdown(cancel_futures=True)

    def copy(
        self,
        reader: Reader,
        writer: Writer,
        blocks: BlockSet,
        advance: Advance,
        *,
        spared: BlockSet = EMPTY,
        against: Reader | None = None,
        gaps: bool = True,
        equal: Equal | None = None,
    ) -> int:
        """Copy `blocks`, but for `spared`, and return how many bytes were written.

        With `against`, which reads what `writer` writes, only 4 KiB blocks that differ are
        written, and `equal` is told of the others. With `gaps`, short ones between the blocks may
        be written, too: that is quicker; without, `against` makes no sense. Raises ReadFailed,
        WriteFailed.
        """
        written = 0
        read = _bridged(blocks, _BRIDGE if gaps else _NEAR).minus(spared)
        only = None if gaps else blocks.minus(spared)
        with closing(self._examine(reader, against, read, equal, only)) as batches:
            for examined, pieces in batches:
                count = sum(len(view) for _, view in pieces)
                for offset, view in pieces:
                    writer.write(offset, view)
                written += count
                self.throttle.spend(count)
                advance(examined if gaps else count)
        return written

    def compare(
        self,
        reader: Reader,
        against: Reader,
        blocks: BlockSet,
        advance: Advance,
        equal: Equal | None = None,
    ) -> tuple[BlockSet, bool]:
        """The 4 KiB blocks within `blocks` that differ, and whether these alone.

        When there are very many, some that do not differ are among them, so that there are fewer
        ranges. Nothing is written. Raises ReadFailed.
        """
        found = Gatherer(widen=True)
        wanted = _bridged(blocks, _BRIDGE)
        with closing(self._examine(reader, against, wanted, equal)) as batches:
            for examined, pieces in batches:
                starts = np.array([offset for offset, _ in pieces], dtype=np.int64)
                lengths = np.array([len(view) for _, view in pieces], dtype=np.int64)
                found.add(starts, starts + lengths)
                advance(examined)
        result = found.result().intersect(blocks)
        return result, found.grain == 1

    def compare_meanwhile(
        self, reader: Reader, against: Reader, blocks: BlockSet, equal: Equal | None = None
    ) -> "Future[tuple[BlockSet, bool]]":
        """`compare`, while the caller does something else; another copy would wait for it."""
        return self._aside.submit(self.compare, reader, against, blocks, lambda _: None, equal)

    def _examine(
        self,
        reader: Reader,
        against: Reader | None,
        blocks: BlockSet,
        equal: Equal | None,
        only: BlockSet | None = None,
    ) -> Generator[tuple[int, Pieces], None, None]:
        """For each batch: bytes read of one side, and the pieces that differ or might.

        Of these, `only` what is in there. They are good until the next batch is asked for.
        """
        with self._turn:
            yield from self._in_batches(reader, against, blocks, equal, only)

    def _in_batches(
        self,
        reader: Reader,
        against: Reader | None,
        blocks: BlockSet,
        equal: Equal | None,
        only: BlockSet | None,
    ) -> Generator[tuple[int, Pieces], None, None]:
        spare = list(self._slabs)
        batches = _batches(blocks)
        batch = next(batches, None)
        reading: deque[Future[tuple[_Slab, int, Pieces]]] = deque()
        try:
            while batch or reading:
                while batch and spare:
                    slab = spare.pop()
                    reading.append(
                        self._pool.submit(_fetch, reader, against, batch, slab, equal, only)
                    )
                    batch = next(batches, None)
                slab, examined, pieces = reading.popleft().result()
                self.throttle.spend(examined if against is None else 2 * examined)
                yield examined, pieces
                spare.append(slab)
        finally:
            wait(reading)  # only after a failure: nobody may still read into what is let go

    def lend(self, size: int) -> Room:
        """Room for `size` bytes: the copier's own, and more where that is not enough.

        It is to be given back, by letting it go, before the next copy or comparison.
        """
        own = [view for slab in self._slabs for view in (slab.ours, slab.theirs) if view]
        missing = size - sum(len(view) for view in own)
        return Room([*own, buffer(missing)] if missing > 0 else own)

    def read(self, reader: Reader, blocks: BlockSet, room: Room) -> Pieces:
        """Read `blocks` into `room`, which is large enough, with all threads. Raises ReadFailed."""
        pieces: Pieces = []
        for start, end in blocks.pieces(CHUNK):
            at = start
            while at < end:
                view = room.take(end - at)
                pieces.append((at, view))
                at += len(view)
        done = [self._pool.submit(_fill, reader, pieces[n::_THREADS]) for n in range(_THREADS)]
        wait(done)
        for each in done:
            each.result()
        return pieces


def _fetch(
    reader: Reader,
    against: Reader | None,
    batch: list[tuple[int, int]],
    slab: _Slab,
    equal: Equal | None,
    only: BlockSet | None,
) -> tuple[_Slab, int, Pieces]:
    """Read one batch; return the slab, the bytes examined, and the pieces to write."""
    pieces: Pieces = []
    used = 0
    if against is not None and not slab.theirs:
        slab.theirs = buffer(CHUNK)
    for start, end in batch:
        here = slice(used, used + end - start)
        ours = slab.ours[here]
        used = here.stop
        reader.read_into(start, ours)
        if against is None:
            pieces.append((start, ours))
            continue
        against.read_into(start, slab.theirs[here])
        pieces += (
            (start + first, ours[first:last]) for first, last in differing(ours, slab.theirs[here])
        )
    if equal is not None and against is not None:
        differ = BlockSet.of((offset, offset + len(view)) for offset, view in pieces)
        equal(batch, slab.ours[:used], differ)
    return slab, used, pieces if only is None else _within(pieces, only)


def _within(pieces: Pieces, only: BlockSet) -> Pieces:
    """What of `pieces`, which come in order, lies in `only`."""
    found: Pieces = []
    reach = BlockSet.of((offset, offset + len(view)) for offset, view in pieces)
    wanted = deque(only.intersect(reach))
    for offset, view in pieces:
        end = offset + len(view)
        while wanted and wanted[0][0] < end:
            start, stop = wanted.popleft()
            found.append((start, view[start - offset : min(stop, end) - offset]))
            if stop > end:
                wanted.appendleft((end, stop))
    return found


def _fill(reader: Reader, pieces: Pieces) -> None:
    for offset, view in pieces:
        reader.read_into(offset, view)


def _batches(blocks: BlockSet) -> Iterator[list[tuple[int, int]]]:
    """Ranges in order, as many at a time as fit into one buffer."""
    batch: list[tuple[int, int]] = []
    size = 0
    for start, end in blocks.pieces(CHUNK):
        if size + end - start > CHUNK or len(batch) == _MOST_PIECES:
            yield batch
            batch, size = [], 0
        batch.append((start, end))
        size += end - start
    if batch:
        yield batch


def _bridged(blocks: BlockSet, gap: int) -> BlockSet:
    """Ranges that are at most `gap` bytes apart joined."""
    longer = np.array([0, gap])
    return BlockSet(BlockSet.of(blocks.ranges + longer).ranges - longer)
