# SPDX-License-Identifier: GPL-3.0-or-later
"""BlockSet: a set of byte ranges of one device, kept sorted and disjoint in a numpy array."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Ranges = npt.NDArray[np.int64]

_NONE: Final[Ranges] = np.empty((0, 2), dtype=np.int64)


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
        for start, end in self.ranges.tolist():  # noqa: UP028 - tuples, not lists
            yield start, end

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BlockSet) and np.array_equal(self.ranges, other.ranges)

    def __hash__(self) -> int:
        return hash(self.ranges.tobytes())

    def union(self, *others: "BlockSet") -> "BlockSet":
        """What is in this set or in any of `others`."""
        return BlockSet.of(np.concatenate([self.ranges, *(other.ranges for other in others)]))

    def intersect(self, other: "BlockSet") -> "BlockSet":
        """What is in both sets."""
        return self._sweep(other, both=True)

    def minus(self, other: "BlockSet") -> "BlockSet":
        """What is in this set and not in `other`."""
        return self._sweep(other, both=False)

    def aligned(self, grain: int) -> "BlockSet":
        """Widened to whole multiples of `grain` bytes."""
        if not self:
            return self
        wide = self.ranges.copy()
        wide[:, 0] -= wide[:, 0] % grain
        wide[:, 1] += -wide[:, 1] % grain
        return BlockSet.of(wide)

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

    def _sweep(self, other: "BlockSet", *, both: bool) -> "BlockSet":
        # One sweep over all edges: +1/-1 for this set, +2/-2 for the other; the running sum says
        # in which of the two each stretch lies. No loop over ranges, so millions are cheap.
        if not self:
            return self
        if not other:
            return BlockSet(_NONE) if both else self
        edges = np.concatenate(
            [self.ranges[:, 0], self.ranges[:, 1], other.ranges[:, 0], other.ranges[:, 1]]
        )
        steps = np.repeat(
            np.array([1, -1, 2, -2], dtype=np.int64),
            [len(self), len(self), len(other), len(other)],
        )
        order = np.argsort(edges, kind="stable")
        edges = edges[order]
        depth = np.cumsum(steps[order])
        wanted = depth[:-1] == (3 if both else 1)
        return BlockSet.of(np.column_stack((edges[:-1][wanted], edges[1:][wanted])))


EMPTY: Final = BlockSet(_NONE)
