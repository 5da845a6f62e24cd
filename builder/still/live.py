# SPDX-License-Identifier: GPL-3.0-or-later
"""The live copy: passes over volumes that move, until so little is left that a short freeze does.

The tracker sees all writes; each pass copies what is in use and not known to be equal (volume.py).
Nothing is guessed: when the tracker may have missed a write, everything starts again.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from builder.change.detector import UseCompare
from builder.copying.copier import Copier, Pieces
from builder.copying.direct import Writer
from builder.still.freezer import Freezer, Interfered, wait_for_tick
from builder.still.hooks import NO_HOOKS, Hooks, around_freeze
from builder.still.quiet import wait_until_quiet
from builder.still.search import choose_detectors, how, reparse, search
from builder.still.tracker import Tracked, Tracker, request_based
from builder.still.volume import Untouched, Volume, open_volume
from core import points
from core.errors import FreezeFailed, HookFailed, NeverQuiet, TrackerLost
from core.machine.mounts import parse_mountinfo
from core.model.blockset import BlockSet
from core.model.live import Found, Instant, Source
from core.screen import Screen, human

T = TypeVar("T")

_LEFT: Final = 32 << 20
"""Bytes that may be left by the last pass, and come until the freeze: it reads both into memory."""
_SMALL: Final = 2 << 20
"""Bytes that may be left by it when the freezes before took too long."""
_SYNCED: Final = 0.2
"""Seconds: a sync that takes less had nothing much to do."""
_TRIES: Final = 5
_PAUSE: Final = 1.0
"""Seconds between the first two tries, and twice as many each time: a snapshot takes a while."""
_STRIKES: Final = 3
"""Passes in a row that may fail to shrink the remainder by a tenth."""
_LARGER: Final = 8
"""How much larger the tracker's buffer is the second time."""


Begin = Callable[[Mapping[str, Found]], Mapping[str, Writer]]
"""Is told what an update will change, by name of the slot, and returns who writes the slots."""


@dataclass(frozen=True, slots=True)
class LiveOptions:
    """How a live copy behaves; times in seconds, sizes in bytes."""

    quiet_for: float = 5.0
    """The freeze waits until nothing was written for this long,"""
    quiet_wait: float = 60.0
    """but no longer than this."""
    max_freeze: float = 2.0
    tracker_buffer: int = 32 << 20
    """Memory for the kernel's events, for all processors together."""
    compare: bool = False
    """The slots hold much of it already: read them, too, and write only what differs."""
    bandwidth: int = 0
    """Most that is read and written in a second, but for the freeze; 0: as much as there is."""
    hooks: Hooks = NO_HOOKS
    """An administrator's commands around the freeze."""


def copy_live(
    sources: Sequence[Source],
    options: LiveOptions,
    screen: Screen,
    writers: Mapping[str, Writer] | None = None,
    begin: Begin | None = None,
) -> Instant:
    """Make the slots equal to the volumes as they are at one instant, but for the identity blocks.

    `writers` by name of the slot; by default straight to the slots' devices. The first that they
    get is zeros over the identity blocks: a slot that is not complete is never taken for a file
    system, let alone for the primary's.

    With `begin` it is an update: what differs is looked for first, while no slot is written to.
    Then `begin` is called, once; it returns the writers, or raises and all slots stay as they are.

    Raises CannotCopyFileSystem, ReadFailed, WriteFailed, FreezeFailed, NeverQuiet, TrackerLost,
    HookFailed.
    """
    slots = _Slots(writers, begin)
    try:
        return _copy(sources, options, screen, slots)
    except _SawTooLittle as reason:
        screen.warn(f"{reason} Starting again with a larger buffer.")
    larger = replace(options, tracker_buffer=options.tracker_buffer * _LARGER, compare=True)
    try:
        return _copy(sources, larger, screen, slots)
    except _SawTooLittle as reason:
        raise TrackerLost(f"{reason} This was the second time.") from None


class _SawTooLittle(Exception):
    """The tracker may have missed a write."""


@dataclass(slots=True)
class _Slots:
    """Who writes the slots: known from the start, or once the update has begun."""

    writers: Mapping[str, Writer] | None
    begin: Begin | None
    found: dict[str, Found] = field(default_factory=dict)

    @property
    def untouched(self) -> bool:
        """Whether nothing may be written to them yet."""
        return self.begin is not None

    def writer(self, name: str) -> Writer | None:
        """None: a plain one, to the slot's device."""
        if self.untouched:
            return Untouched()
        return self.writers[name] if self.writers else None


def _copy(
    sources: Sequence[Source], options: LiveOptions, screen: Screen, slots: _Slots
) -> Instant:
    mounts = parse_mountinfo(Path("/proc/self/mountinfo").read_text("utf-8"))
    order = {mount.mountpoint: number for number, mount in enumerate(mounts)}
    rights = {mount.mountpoint: mount.options for mount in mounts}
    with ExitStack() as stack:
        volumes = [
            open_volume(
                source, slots.writer(source.name), stack,
                compare=options.compare or slots.untouched,
                read_only="rw" not in rights[source.mountpoint],
            )
            for source in sorted(sources, key=lambda source: order[source.mountpoint])
        ]  # fmt: skip
        if slots.untouched:
            choose_detectors(volumes, screen)
        tracked = [Tracked(each.name, each.tracked, each.offset, each.size) for each in sources]
        mountpoints = [volume.source.mountpoint for volume in volumes]
        copier = stack.enter_context(Copier(options.bandwidth))
        freezer = stack.enter_context(Freezer(mountpoints, options.max_freeze))
        tracker = stack.enter_context(Tracker(tracked, options.tracker_buffer))
        return _Live(volumes, slots, options, screen, copier, freezer, tracker).run()


class _Live:
    """All volumes, and what works on them."""

    def __init__(
        self,
        volumes: Sequence[Volume],
        slots: _Slots,
        options: LiveOptions,
        screen: Screen,
        copier: Copier,
        freezer: Freezer,
        tracker: Tracker,
    ) -> None:
        self._volumes = {volume.source.name: volume for volume in volumes}
        self._slots = slots
        self._options = options
        self._screen = screen
        self._copier = copier
        self._freezer = freezer
        self._tracker = tracker
        self._passes = self._examined = self._written = self._left = 0
        self._stall = 0.0
        self._limit = _LEFT
        """Bytes that may be left for the freeze."""

    def run(self) -> Instant:
        """The whole of it, once."""
        for volume in self._volumes.values():
            self._settle(volume)
        points.reach("settled")
        if self._slots.begin is not None:
            self._search(self._slots.begin)
        for volume in self._volumes.values():
            volume.forget_identity()
        self._catch_up(self._limit)
        instant = self._insist(self._take_instant)
        for volume in self._volumes.values():
            volume.writer.flush()
        return instant

    def _search(self, begin: Begin) -> None:
        """Find what differs, then begin to write; until then no slot is touched."""
        self._see()
        for volume in self._volumes.values():
            volume.survey()
        self._land()
        self._examined += search(self._volumes.values(), self._copier, self._screen)
        self._survey()
        self._slots.found = {name: volume.found() for name, volume in self._volumes.items()}
        self._slots.writers = begin(self._slots.found)
        self._slots.begin = None
        for name, volume in self._volumes.items():
            volume.writer = self._slots.writers[name]

    # --- passes -----------------------------------------------------------------------------------

    def _settle(self, volume: Volume) -> None:
        """Bring to the disk what lies in memory: dirty files, journals, lazy timestamps."""
        for _ in range(_TRIES):
            if self._freezer.sync(volume.source.mountpoint) < _SYNCED:
                break
        self._insist(partial(self._barrier, volume))

    def _catch_up(self, limit: int) -> None:
        """Copy until at most `limit` bytes are left. Raises NeverQuiet."""
        best = float("inf")
        strikes = 0
        while (left := self._survey()) > limit or (left and self._passes == 0):
            strikes = strikes + 1 if left > 0.9 * best else 0
            if strikes == _STRIKES:
                raise NeverQuiet(
                    f"The system writes faster than the DPSR disk takes it: {human(left)} were "
                    f"left after {self._passes} passes."
                )
            best = min(best, left)
            self._pass(left)

    def _survey(self) -> int:
        """Find what is to be copied; return how many bytes that is."""
        self._see()
        for name, volume in self._volumes.items():
            if request_based(volume.source.tracked):
                reparse(volume, self._screen)
            volume.survey()
            self._tracker.ignore(name, volume.swap)
        self._left = sum(volume.todo.total for volume in self._volumes.values())
        return self._left

    def _pass(self, total: int) -> None:
        self._land()
        self._passes += 1
        with self._screen.progress(f"Pass {self._passes}", total) as advance:
            for volume in self._volumes.values():
                self._written += volume.copy(self._copier, advance)
        self._examined += total
        points.reach("pass-done")

    def _land(self) -> None:
        """Return when all writes that were seen can be read back."""
        for volume in self._volumes.values():
            if not request_based(volume.source.tracked):
                # Its writes were seen when they were queued; after a freeze they have landed.
                self._insist(partial(self._barrier, volume))
                if self._slots.begin is None:
                    reparse(volume, self._screen)

    # --- standing still -----------------------------------------------------------------------

    def _take_instant(self, attempt: int) -> Instant:
        self._wait_for_quiet(self._limit)
        self._sync()
        if (left := self._survey()) > _SMALL:  # to read it in the freeze would take long
            self._pass(left)
        self._catch_up(self._limit)
        mountpoints = [volume.source.mountpoint for volume in self._volumes.values()]
        with around_freeze(self._options.hooks, mountpoints, self._screen) as hooked:
            if hooked:
                self._look_after_hook(attempt)
            try:
                rests, instant = self._freeze()
            except Interfered:
                self._limit = max(self._limit >> 2, _SMALL)  # too much may have been the reason
                raise
        points.reach("thawed")
        self._tracker.end_soon()
        for writer, pieces in rests:
            for offset, view in pieces:
                writer.write(offset, view)
        return instant

    def _look_after_hook(self, attempt: int) -> None:
        """Raise when there is too much to be copied now: a database may be locked meanwhile."""
        self._sync()
        if (left := self._survey()) <= self._limit:
            return
        said = f"before_freeze brought {human(left)} of changes to the disk"
        if attempt == _TRIES - 1:
            raise HookFailed(
                f"{said}, and much each time. Nothing is copied while it holds a lock."
            )
        raise Interfered(f"{said}. They are copied first, while it holds no lock.")

    def _freeze(self) -> tuple[list[tuple[Writer, Pieces]], Instant]:
        """The instant itself: reads what is left to be written, and who is to write it."""
        room = self._copier.lend(_LEFT + self._left)
        rests: list[tuple[Writer, Pieces]] = []
        read = 0
        with self._still(self._volumes.values()):
            for volume in self._volumes.values():
                self._reparse_still(volume)
                rest = volume.rest()
                if rest.total > room.left:
                    raise Interfered("Much was written at the last moment.")
                pieces = self._copier.read(volume.reader, rest, room)
                rests.append((volume.writer, pieces))
                read += rest.total
            identity = {
                name: volume.read_identity(self._copier) for name, volume in self._volumes.items()
            }
            taken = time.time()
            wait_for_tick()
            points.reach("frozen")
            for name, seen in self._see().items():
                if self._volumes[name].wrote(seen):
                    raise Interfered(f"Something wrote to the volume of {name} in the freeze.")
        volumes = self._volumes.items()
        return rests, Instant(
            taken=taken,
            passes=self._passes,
            stall_seconds=self._stall,
            bytes_examined=self._examined + read,
            bytes_written=self._written + read,
            identity=identity,
            used={name: volume.in_use() for name, volume in volumes},
            swap={name: volume.swap for name, volume in volumes},
            detectors={name: volume.detected_by for name, volume in volumes},
            mounts={name: volume.shape.mounts for name, volume in volumes},
            found=self._slots.found,
        )

    def _reparse_still(self, volume: Volume) -> None:
        try:
            volume.reparse(still=True)
        except UseCompare as reason:
            volume.use_compare()
            raise Interfered(f"{how(volume, str(reason))}.") from None

    def _sync(self) -> None:
        for volume in self._volumes.values():
            self._freezer.sync(volume.source.mountpoint)

    def _wait_for_quiet(self, limit: int) -> None:
        self._screen.note("Waiting for a quiet moment")
        deadline = time.monotonic() + self._options.quiet_wait
        while not wait_until_quiet(
            self._tracker, self._volumes, self._options.quiet_for, deadline,
            lambda: self._tracker.pending > limit,
        ) and time.monotonic() < deadline:  # fmt: skip
            self._catch_up(limit)

    @contextmanager
    def _still(self, volumes: Iterable[Volume]) -> Iterator[None]:
        """Within, the volumes are frozen, and the tracker has proved that it sees their writes.

        What is dirty is synced just before: a freeze does it too, while all writers wait already.
        """
        chosen = list(volumes)
        for volume in chosen:
            self._freezer.sync(volume.source.mountpoint)
        self._see()
        try:
            with self._freezer.frozen([volume.source.mountpoint for volume in chosen]):
                seen = self._see()
                for volume in chosen:
                    if not volume.shows_freeze(seen[volume.source.name]):
                        raise _SawTooLittle(
                            f"The kernel did not show a write to {volume.source.device} that was "
                            "made for certain."
                        )
                yield
        finally:
            self._stall = max(self._stall, self._freezer.stall_seconds)

    def _barrier(self, volume: Volume, _attempt: int) -> None:
        with self._still([volume]):
            pass

    def _see(self) -> dict[str, BlockSet]:
        """What was written since the last call. Raises _SawTooLittle."""
        seen = self._tracker.take()
        if self._tracker.lost:
            raise _SawTooLittle("The kernel's events came faster than they were read.")
        for name, blocks in seen.items():
            self._volumes[name].see(blocks)
        return seen

    def _insist(self, action: Callable[[int], T]) -> T:
        """Do something that others can interfere with, some times if need be."""
        said = ""
        for attempt in range(_TRIES):
            if attempt:
                self._screen.note(f"{said} Trying again.")
                time.sleep(_PAUSE * 2 ** (attempt - 1))
            try:
                return action(attempt)
            except Interfered as reason:
                said = f"{reason}"
        raise FreezeFailed(f"{said} No point in time could be taken, {_TRIES} times.")
