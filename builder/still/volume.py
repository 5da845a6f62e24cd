# SPDX-License-Identifier: GPL-3.0-or-later
"""One volume under way to its slot: what is equal on both sides, and what is still to be copied.

What makes the live copy right is one invariant: `copied` holds ranges that are equal on both
sides, but for what was written since (`dirty`). To be copied is always what is in use and not
known to be equal. When that is nothing while the volume stands still, the two are equal. In
`prepare` nothing is known at first; in an update, a detector and a comparison tell.
"""

import time
from concurrent.futures import Future
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import Final

from builder.change import superblock
from builder.change.below import swap_files, written_by_grub
from builder.change.choose import choose
from builder.change.detector import Compare, Detector
from builder.change.free import Free
from builder.change.superblock import Superblock
from builder.change.used import swap_extents, used
from builder.copying.copier import Copier, Room
from builder.copying.direct import Reader, SlotWriter, Writer, buffer
from builder.still.tracker import GRAIN, MOST
from core.errors import StepFailed
from core.model.blockset import EMPTY, BlockSet
from core.model.live import Found, Source
from core.screen import Advance

_CHEAP: Final = 0.05
_NEAR: Final = 0.5
"""Seconds, of processor and in all: a used map that takes less is had again in the freeze."""
_SUPERBLOCK: Final = BlockSet.of([(0, GRAIN)])


class Untouched:
    """Stands for the writer of a slot that nobody may write to yet."""

    def write(self, offset: int, view: memoryview) -> None:
        raise AssertionError(f"{len(view)} bytes at {offset} written before the update has begun")

    def flush(self) -> None:
        raise AssertionError("flushed before the update has begun")


@dataclass(slots=True)
class Volume:
    """See above. Ranges are bytes of the volume, in whole grains of 4 KiB but for its end.

    No set grows without end: `used` and `dirty` get coarser, `copied` forgets.
    """

    source: Source
    reader: Reader
    writer: Writer
    slot: Reader
    compares: bool
    """Only what differs from the slot is to be written."""
    shape: Superblock
    identity: BlockSet
    """Left out of every copy."""
    read_only: bool
    """A file system that is mounted so writes nothing when it is frozen."""
    detector: Detector = field(default_factory=Compare)
    copied: BlockSet = EMPTY
    dirty: BlockSet = EMPTY
    unparsed: BlockSet = EMPTY
    """What was written and the detector was not told yet."""
    used: BlockSet = EMPTY
    late: BlockSet = EMPTY
    """What was written before the freeze and after the used map was made: in use as well."""
    swap: BlockSet = EMPTY
    """Its active swap files: nobody's data."""
    todo: BlockSet = EMPTY
    """What was to be copied at the last `survey`."""
    unlike: BlockSet = EMPTY
    """Blocks that differ, or are taken to: there is no need to compare them again."""
    _map_is_cheap: bool = False
    _free: Free = field(default_factory=Free)
    _early: list[tuple[BlockSet, "Future[tuple[BlockSet, bool]]"]] = field(default_factory=list)
    """What is compared while `find` looks for more, and what will be known of it."""

    def see(self, written: BlockSet) -> None:
        """Note what the tracker saw."""
        self.dirty = self.dirty.union(written)
        self.unparsed = self.unparsed.union(written)
        if max(len(self.dirty), len(self.unparsed)) > MOST:
            self.unparsed = self.unparsed.fewer(MOST)
            # What the detector takes for written must be copied.
            self.dirty = self.dirty.union(self.unparsed).fewer(MOST)

    def survey(self) -> None:
        """Find what is to be copied. The tracker's events must have been taken just before."""
        if self.dirty or not self.used:  # else nothing was allocated that holds anything
            begun, worked = time.monotonic(), time.thread_time()
            self.used = self._used()
            worked = time.thread_time() - worked
            self._map_is_cheap = worked < _CHEAP and time.monotonic() - begun < _NEAR
        self.copied, self.dirty, self.late = self.copied.minus(self.dirty), EMPTY, EMPTY
        if len(self.copied) > 2 * MOST:
            self.copied = self.copied.intersect(self.used)
        self.swap = swap_extents(self.source.mountpoint).aligned(GRAIN)
        self.todo = self.used.minus(self.swap).minus(self.identity).minus(self.copied)

    # --- what an update knows more ----------------------------------------------------------------

    def choose_detector(self) -> str:
        """Choose it, while the slot is as the last backup left it; return why it is `compare`."""
        earlier = self.source.earlier
        if earlier is None:
            return "nothing is known of the last backup"
        if earlier.full:
            return "everything was asked for"
        if not earlier.digested:
            return "there are no digests of its blocks yet"
        self.detector, reason = choose(
            self.source.fstype, self.reader, self.slot,
            never_crashed=earlier.mounts == self.shape.mounts,
        )  # fmt: skip
        return reason

    def find(self, copier: Copier, advance: Advance) -> BlockSet:
        """What may differ, out of what the first survey found. Raises UseCompare, ReadFailed.

        Some of it is compared meanwhile, unless the disks are to be left to others.
        """
        earlier = self.source.earlier
        always = written_by_grub(self.source.mountpoint).union(swap_files(self.source.mountpoint))
        if earlier is not None:
            always = always.union(earlier.always)
        # Seen since the last freeze: the data is on its disk, its inode's new time may not be.
        always = always.union(self.unparsed)

        def compare_early(blocks: BlockSet) -> None:
            if not copier.throttle.limited:
                some = blocks.intersect(self.todo)
                equal = self.source.compared
                coming = copier.compare_meanwhile(self.reader, self.slot, some, equal)
                self._early.append((some, coming))

        found = self.detector.find(self.used, always, advance, compare_early)
        return found.intersect(self.todo)

    def compare(self, copier: Copier, candidates: BlockSet, advance: Advance) -> None:
        """Find out what really differs; of all else it is known then that it does not.

        What the slot has in no file is taken to differ: to read both sides of it costs more than
        to write the few blocks that happen to be alike.
        """
        sure = candidates.intersect(self.detector.sure)
        rest = candidates.minus(sure)
        differs, exactly = EMPTY, True
        early, self._early = self._early, []
        for blocks, coming in early:
            some, fine = coming.result()
            differs, exactly = differs.union(some), exactly and fine
            rest = rest.minus(blocks)
        some, fine = copier.compare(self.reader, self.slot, rest, advance, self.source.compared)
        differs, exactly = differs.union(some), exactly and fine
        self.copied = self.todo.minus(differs).minus(sure)
        self.unlike = sure.union(differs) if exactly else sure

    def reparse(self, *, still: bool) -> None:
        """Let the detector see what was written since `find`. Raises UseCompare, ReadFailed."""
        written, self.unparsed = self.unparsed, EMPTY
        if written or still:
            more = self.detector.reparse(written, still=still)
            self.dirty = self.dirty.union(more).fewer(MOST)

    def use_compare(self) -> None:
        """The detector is at its wits' end: nothing is known to be equal any more."""
        self.detector = Compare()
        self.copied = self.unparsed = EMPTY
        self._early = []

    @property
    def detected_by(self) -> str:
        """What told what differs; `used`: nothing did, all was written."""
        return self.detector.name if self.compares else "used"

    def found(self) -> Found:
        """What the last survey found."""
        return Found(differs=self.todo.total, used=self.used.minus(self.swap).total)

    # --- copying ----------------------------------------------------------------------------------

    def copy(self, copier: Copier, advance: Advance) -> int:
        """Copy what the survey found; return how many bytes were written."""
        sure, self.unlike = self.todo.intersect(self.unlike), EMPTY
        written = copier.copy(self.reader, self.writer, sure, advance, gaps=False)
        written += copier.copy(
            self.reader, self.writer, self.todo.minus(sure), advance,
            spared=self.identity, against=self.slot if self.compares else None,
            equal=self.source.compared,
        )  # fmt: skip
        self.writer.flush()  # it may gather what it is given; the next pass reads the slot
        self.copied = self.copied.union(self.todo)
        return written

    def rest(self) -> BlockSet:
        """What is to be copied while the volume is frozen, a survey having been made before.

        Nothing here takes long: the large sets are left alone, unless they are quickly had.
        """
        rest = self.todo.union(self.dirty)
        if self._map_is_cheap:
            now = self._used()
            # What was allocated and not written yet (fallocate) made no event.
            rest = rest.union(now.minus(self.used)).intersect(now)
            self.used = now
        else:
            self.late = self.dirty
        return rest.minus(self.swap).minus(self.identity)

    def shows_freeze(self, seen: BlockSet) -> bool:
        """Whether what the tracker saw in a freeze has the superblock that the freeze wrote."""
        return self.read_only or bool(seen.intersect(_SUPERBLOCK))

    def wrote(self, seen: BlockSet) -> bool:
        """Whether what the tracker saw concerns data, and not free space that was discarded."""
        in_use = seen.intersect(self.used).union(seen.intersect(self.late))
        return bool(in_use.minus(self.swap))

    def in_use(self) -> BlockSet:
        """After the freeze: what was used in it, without active swap files."""
        return self.used.union(self.late).minus(self.swap)

    def forget_identity(self) -> None:
        """Put zeros where the slot's identity is, so that nothing takes it for a file system."""
        zeros = buffer(max(end - start for start, end in self.identity))
        for start, end in self.identity:
            self.writer.write(start, zeros[: end - start])
        self.writer.flush()

    def read_identity(self, copier: Copier) -> tuple[tuple[int, bytes], ...]:
        """The identity blocks. Raises StepFailed when the file system was resized meanwhile."""
        room = Room([buffer(self.identity.total)])
        blocks = [(at, bytes(view)) for at, view in copier.read(self.reader, self.identity, room)]
        now = superblock.parse(
            blocks[0][1][superblock.AT : superblock.AT + superblock.SIZE], self.source.device
        )
        if (now.blocks, now.backup_groups) != (self.shape.blocks, self.shape.backup_groups):
            raise StepFailed(f"The file system at {self.source.mountpoint} was resized meanwhile.")
        self.shape = now
        return tuple(blocks)

    def _used(self) -> BlockSet:
        found = used(self.source.mountpoint, self.shape.size, free=self._free)
        return found.aligned(GRAIN).within(self.source.size)


def read_shape(reader: Reader, where: str) -> Superblock:
    """The superblock of the device that `reader` reads. Raises CannotCopyFileSystem."""
    room = buffer(GRAIN)
    reader.read_into(0, room)
    return superblock.parse(bytes(room[superblock.AT : superblock.AT + superblock.SIZE]), where)


def identity_of(shape: Superblock, size: int) -> BlockSet:
    """The whole grains by which the file system on a device of `size` bytes is found."""
    return superblock.identity_blocks(shape).aligned(GRAIN).within(size)


def open_volume(
    source: Source, writer: Writer | None, stack: ExitStack, *, compare: bool, read_only: bool
) -> Volume:
    """Open what a volume needs; `stack` closes it. Raises ReadFailed, WriteFailed."""
    reader = stack.enter_context(closing(Reader(source.device)))
    shape = read_shape(reader, source.device)
    return Volume(
        source=source,
        reader=reader,
        writer=writer or stack.enter_context(closing(SlotWriter(source.target))),
        slot=stack.enter_context(closing(Reader(source.target))),
        compares=compare,
        shape=shape,
        identity=identity_of(shape, source.size),
        read_only=read_only,
    )
