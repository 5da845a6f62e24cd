# SPDX-License-Identifier: GPL-3.0-or-later
"""BlockSet: a set of byte ranges of one device, kept sorted and disjoint in a numpy array."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Ranges = npt.NDArray[np.int64]

_NONE: Final[Ranges] = np.empty((0, 2), dtype=np.int64)
_AT_ONCE: Final = 4096


@dataclass(frozen=True, slots=True, eq=False)
class BlockSet:
    """Byte ranges `[start, end)`: int64 of shape (n, 2), sorted, disjoint, not touching."""

    ranges: Ranges

    @staticmethod
    def of(pairs: "Iterable[tuple[int, int]] | Ranges") -> "BlockSet":
        """The union of `(start, end)` pairs in any order; they may be empty or overlap."""
        given = pairs if isinstance(pairs, np.ndarray) else np.array(list(pairs), dtype=np.int64)
        given = given.reshape(-1, 2)
        given = given[given[:, 1] > given[:, 0]]
        if len(given) == 0:
            return BlockSet(_NONE)
        given = given[np.argsort(given[:, 0], kind="stable")]
        reach = np.maximum.accumulate(given[:, 1])
        first = np.empty(len(given), dtype=bool)
        first[0] = True
        first[1:] = given[1:, 0] > reach[:-1]
        starts = given[first, 0]
        last = np.append(np.flatnonzero(first)[1:] - 1, len(given) - 1)
        return BlockSet(np.column_stack((starts, reach[last])))

    @property
    def total(self) -> int:
        """How many bytes are in the set."""
        return int((self.ranges[:, 1] - self.ranges[:, 0]).sum())

    def __bool__(self) -> bool:
        return len(self.ranges) > 0

    def __len__(self) -> int:
        return len(self.ranges)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        for at in range(0, len(self), _AT_ONCE):  # as Python's numbers they take ten times the room
            for start, end in self.ranges[at : at + _AT_ONCE].tolist():  # noqa: UP028 - tuples
                yield start, end

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BlockSet) and np.array_equal(self.ranges, other.ranges)

    def __hash__(self) -> int:
        return hash(self.ranges.tobytes())

    def union(self, *others: "BlockSet") -> "BlockSet":
        """What is in this set or in any of `others`."""
        sets = [each for each in (self, *others) if each]
        if len(sets) < 2:
            return sets[0] if sets else EMPTY
        return BlockSet.of(np.concatenate([each.ranges for each in sets]))

    def intersect(self, other: "BlockSet") -> "BlockSet":
        """What is in both sets."""
        if len(self) > len(other):
            return other.intersect(self)
        # For each range of the smaller set, those of the larger one that overlap with it: no loop
        # and no sorting, so that millions are cheap, and few against millions cost next to nothing.
        first = np.searchsorted(other.ranges[:, 1], self.ranges[:, 0], side="right")
        count = np.searchsorted(other.ranges[:, 0], self.ranges[:, 1], side="left") - first
        ours = np.repeat(np.arange(len(self)), count)
        theirs = np.arange(len(ours)) + np.repeat(first - np.cumsum(count) + count, count)
        starts = np.maximum(self.ranges[ours, 0], other.ranges[theirs, 0])
        ends = np.minimum(self.ranges[ours, 1], other.ranges[theirs, 1])
        return BlockSet(np.column_stack((starts, ends)))

    def minus(self, other: "BlockSet") -> "BlockSet":
        """What is in this set and not in `other`."""
        if not self or not other:
            return self
        limits = np.iinfo(np.int64)
        edges = np.concatenate(([limits.min], other.ranges.reshape(-1), [limits.max]))
        return self.intersect(BlockSet(edges.reshape(-1, 2)))

    def aligned(self, grain: int) -> "BlockSet":
        """Widened to whole multiples of `grain` bytes."""
        if not self:
            return self
        wide = self.ranges.copy()
        wide[:, 0] -= wide[:, 0] % grain
        wide[:, 1] += -wide[:, 1] % grain
        return BlockSet.of(wide)

    def fewer(self, most: int) -> "BlockSet":
        """All of it in at most `most` ranges: where there are more, its smallest gaps go."""
        if len(self) <= most:
            return self
        starts, ends = self.ranges[1:, 0], self.ranges[:-1, 1]
        stay = np.sort(np.argpartition(ends - starts, most - 1)[: most - 1])
        first, last = self.ranges[:1, 0], self.ranges[-1:, 1]
        pairs = np.concatenate((first, starts[stay])), np.concatenate((ends[stay], last))
        return BlockSet(np.column_stack(pairs))

    def shifted(self, by: int) -> "BlockSet":
        """Each range moved by `by` bytes."""
        return BlockSet(self.ranges + by)

    def within(self, size: int) -> "BlockSet":
        """Cut down to `[0, size)`."""
        return self.intersect(BlockSet.of([(0, size)]))

    def pieces(self, most: int) -> Iterator[tuple[int, int]]:
        """The ranges in order, cut into pieces of at most `most` bytes at multiples of `most`."""
        for start, end in self:
            at = start
            while at < end:
                stop = min(end, at - at % most + most)
                yield at, stop
                at = stop


EMPTY: Final = BlockSet(_NONE)
