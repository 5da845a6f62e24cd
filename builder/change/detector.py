# SPDX-License-Identifier: GPL-3.0-or-later
"""What every detector is: something that says which bytes of volume and slot may differ.

The order in which a detector is used matters, and it is the same for all of them:

1. make it while the slot is as the last backup left it, superblocks included;
2. start the tracker of writes, sync the volume, freeze and thaw it;
3. `find` the candidates, before anything is written to the slot;
4. with each lot of writes that the tracker reports, from its start on and up to the last one in
   the freeze: `reparse` them. Whatever the tracker reports is copied anyway; what `reparse`
   returns is to be copied as well.

Candidates are compared before they are written: most of them are equal.
"""

from collections.abc import Callable
from typing import Protocol

from core.model.blockset import EMPTY, BlockSet
from core.screen import Advance

Early = Callable[[BlockSet], None]


def nobody(_blocks: BlockSet) -> None:
    """Is told of candidates, and waits for all of them."""


class UseCompare(Exception):
    """This detector would have to guess; `compare` is always right. `str()` says why, in a line."""


class Readable(Protocol):
    """A device or an image. Any thread may read."""

    def read_into(self, offset: int, view: memoryview) -> None:
        """Fill `view` with what is at `offset` bytes. Raises ReadFailed."""


class Detector(Protocol):
    """Finds what may differ between one volume and its slot."""

    name: str
    """`ext4` or `compare`, for `history`."""
    work: int
    """Bytes that `find` reports to `advance` until it is done."""
    sure: BlockSet
    """Candidates of `find` that it saw to differ, or that the slot has in no file: to compare them
    is a waste."""

    def find(
        self, used: BlockSet, always: BlockSet, advance: Advance, early: Early = nobody
    ) -> BlockSet:
        """Byte ranges outside which volume and slot are equal, as far as blocks are used.

        `used` is the used map of the volume, not older than the last freeze. `always` is compared
        whatever the file system says: the fix-ups of the last manifest, what is written past the
        file system (`below.py`), and what the tracker has seen so far. The result may reach into
        free blocks and into superblocks. `early` is told of candidates that can be compared
        while the others are looked for; they are in the result, too.
        Raises UseCompare, ReadFailed.
        """

    def reparse(self, written: BlockSet, *, still: bool) -> BlockSet:
        """Further candidates, now that `written` was written since `find` or `reparse` began.

        Quick enough for a freeze, but when the file system was busy the result may be large.
        `still` says that the volume is frozen: what makes no sense now never will. Raises
        UseCompare, then: whatever is used is a candidate after all. Raises ReadFailed.
        """


class Compare:
    """The detector that is always right, for any file system: every used block may differ."""

    name = "compare"
    work = 0
    sure = EMPTY

    def find(
        self,
        used: BlockSet,
        always: BlockSet,
        advance: Advance,  # noqa: ARG002
        early: Early = nobody,  # noqa: ARG002
    ) -> BlockSet:
        return used.union(always)

    def reparse(self, written: BlockSet, *, still: bool) -> BlockSet:  # noqa: ARG002
        return EMPTY
