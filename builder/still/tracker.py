# SPDX-License-Identifier: GPL-3.0-or-later
"""Sees every range of the volumes that is written, by the kernel's block events.

Everything but reads with a length counts as a write: WRITE_ZEROES is shown as `N`, discards as
`D`. The kernel leaves the reads out by a filter, since most of them are our own. On request-based
disks a range counts when it is issued *and again when it is complete*: a chunk that is read
between the two is stale. Devices without requests of their own (dm, md, the head of an NVMe
multipath) show only `block_bio_queue`; who copies from them needs a freeze as a barrier.
"""

import contextlib
import os
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

import numpy as np

from builder.still import events
from core import run
from core.errors import KernelFeatureMissing, StepFailed, TrackerLost
from core.model.blockset import EMPTY, BlockSet
from core.threads import started

GRAIN: Final = 4096
"""What is written is widened to multiples of this many bytes of the volume."""

_TRACING: Final = Path("/sys/kernel/tracing")
_EVERY: Final = 0.02
"""Seconds between two looks into the buffers."""
_SECTOR: Final = 512
_SMALLEST: Final = 64 << 10
_MANY: Final = 100_000
"""Ranges that are kept before they are merged."""
MOST: Final = 150_000
"""Ranges of one volume that are told apart: of more, the nearest count as one."""
_REQUESTS: Final = ("block_rq_issue", "block_rq_complete")
_BIOS: Final = ("block_bio_queue",)


@dataclass(frozen=True, slots=True)
class Tracked:
    """One volume as the tracker sees it."""

    name: str
    dev: tuple[int, int]
    """Of the disk or dm/md device whose events show the volume's writes."""
    offset: int
    """Where the volume begins there."""
    size: int


def request_based(dev: tuple[int, int]) -> bool:
    """Whether a device has requests of its own; else its writes are seen when queued, only."""
    return Path(f"/sys/dev/block/{dev[0]}:{dev[1]}/mq").is_dir()


def check_block_events() -> None:
    """Raise KernelFeatureMissing when the kernel cannot show what is written; writes nothing."""
    try:
        _mount()
        for name in (*_REQUESTS, *_BIOS):
            events.parse_format((_TRACING / "events/block" / name / "format").read_text())
    except (OSError, ValueError, StepFailed) as error:
        raise KernelFeatureMissing(
            "usable block events in tracefs", "see what is written during the copy"
        ) from error


@dataclass(slots=True)
class _Seen:
    """What was seen of one volume since the last `take`."""

    what: Tracked
    last: float
    ignored: BlockSet = EMPTY
    ranges: list[events.Events] = field(default_factory=list)
    kept: int = 0

    def add(self, found: events.Events, now: float) -> None:
        start = found[:, 1] * _SECTOR - self.what.offset
        end = np.minimum(start + found[:, 2] * _SECTOR, self.what.size)
        ranges = np.column_stack((np.maximum(start, 0), end))
        ranges = ranges[(found[:, 0] == _number(self.what.dev)) & (end > ranges[:, 0])]
        if len(ranges) == 0:
            return
        if not self.ignored or BlockSet.of(ranges).minus(self.ignored):
            self.last = now
        self.ranges.append(ranges)
        self.kept += len(ranges)
        if self.kept > _MANY:
            merged = self.blocks()
            self.ranges = [merged.ranges]
            self.kept = len(merged) // 2  # so that a set that stays large is not merged each time

    def blocks(self) -> BlockSet:
        if not self.ranges:
            return EMPTY
        joined = BlockSet.of(np.concatenate(self.ranges))
        return joined.aligned(GRAIN).within(self.what.size).fewer(MOST)


class Tracker:
    """A private instance of the kernel's tracing, read by a thread while the `with` block lasts.

    `buffer` is the memory for events that were not read yet, in bytes, for all processors together.
    Raises TrackerLost when the events cannot be had; `check_block_events` says so beforehand.
    """

    def __init__(self, volumes: Sequence[Tracked], buffer: int) -> None:
        now = time.monotonic()
        self._seen = {volume.name: _Seen(volume, now) for volume in volumes}
        self._buffer = buffer
        self._home = _TRACING / "instances" / f"dpsr-{os.getpid()}"
        self._formats: dict[int, events.Format] = {}
        self._rings: dict[str, int] = {}
        self._page = 4096
        self._most = 1
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._missed = False
        self._fault: BaseException | None = None
        self._undo = ExitStack()
        self._ender: ThreadPoolExecutor | None = None
        self._ending: Future[None] | None = None

    def __enter__(self) -> Self:
        with self._undo:
            try:
                self._begin()
            except (OSError, ValueError) as error:
                raise TrackerLost(f"The kernel's block events cannot be had: {error}.") from error
            thread = threading.Thread(target=self._read, name="tracker", daemon=True)
            thread.start()
            self._undo.callback(thread.join)
            self._undo.callback(self._stop.set)
            self._ender = started(1, "tracker-end")
            self._undo = self._undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        if self._ender is not None:
            with self._ender:
                self.end_soon()
        if self._ending is not None:
            self._ending.result()

    def end_soon(self) -> None:
        """Nothing is to be seen any more: begin to end, which takes the kernel some time."""
        if self._ending is None and self._ender is not None:
            self._ending = self._ender.submit(self._undo.close)

    def poll(self) -> None:
        """Read what the kernel has noted up to now."""
        with self._lock:
            self._drain()

    def take(self) -> dict[str, BlockSet]:
        """What was written since the last `take`, by name, in whole grains of the volume."""
        with self._lock:
            self._drain()
            self._open_rings()  # a processor may have come since
            taken = {name: seen.blocks() for name, seen in self._seen.items()}
            for seen in self._seen.values():
                seen.ranges, seen.kept = [], 0
            return taken

    @property
    def pending(self) -> int:
        """About how many bytes were written since the last `take`; what came twice counts twice."""
        with self._lock:
            kept = [ranges for seen in self._seen.values() for ranges in seen.ranges]
            return sum(int((ranges[:, 1] - ranges[:, 0]).sum()) for ranges in kept)

    @property
    def lost(self) -> bool:
        """Whether the kernel had to drop events: what was taken is then not all."""
        if not self._missed:
            stats = "".join(path.read_text() for path in self._home.glob("per_cpu/cpu*/stats"))
            counts = [line.partition(": ") for line in stats.splitlines()]
            self._missed = any(
                name in {"overrun", "commit overrun", "dropped events"} and int(count) > 0
                for name, _, count in counts
            )
        return self._missed

    def last_write(self, name: str) -> float:
        """When the last write to a volume was seen (`time.monotonic`); at first, the beginning."""
        return self._seen[name].last

    def ignore(self, name: str, blocks: BlockSet) -> None:
        """Writes to `blocks` (swap files) do not count for `last_write`; `take` has them still."""
        self._seen[name].ignored = blocks

    # --- the kernel's side --------------------------------------------------------------------

    def _begin(self) -> None:
        _mount()
        _sweep()
        self._undo.enter_context(_no_names())
        self._home.mkdir()
        self._undo.callback(self._home.rmdir)
        share = max(self._buffer // (os.cpu_count() or 1), _SMALLEST)
        self._write("buffer_size_kb", str(share >> 10))
        with contextlib.suppress(FileNotFoundError):  # Linux 6.8 and newer
            self._page = int((self._home / "buffer_subbuf_size_kb").read_text()) << 10
        self._most = share // self._page + 2
        self._undo.callback(self._close_rings)
        self._open_rings()
        devices = {seen.what.dev for seen in self._seen.values()}
        with_requests = {dev for dev in devices if request_based(dev)}
        for names, group in ((_REQUESTS, with_requests), (_BIOS, devices - with_requests)):
            for name in names if group else ():
                folder = self._home / "events/block" / name
                form = events.parse_format((folder / "format").read_text())
                self._formats[form.number] = form
                any_dev = " || ".join(f"dev == {_number(dev)}" for dev in sorted(group))
                self._write(f"events/block/{name}/filter", f'({any_dev}) && !(rwbs ~ "R*")')
                self._write(f"events/block/{name}/enable", "1")

    def _write(self, name: str, text: str) -> None:
        (self._home / name).write_text(text)

    def _open_rings(self) -> None:
        for cpu in os.listdir(self._home / "per_cpu"):
            if cpu not in self._rings:
                path = self._home / "per_cpu" / cpu / "trace_pipe_raw"
                self._rings[cpu] = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)

    def _close_rings(self) -> None:
        for ring in self._rings.values():
            os.close(ring)
        self._rings.clear()

    def _read(self) -> None:
        while not self._stop.wait(_EVERY):
            try:
                self.poll()
            except BaseException as error:  # told to the main thread at its next call
                self._fault = error
                return

    def _drain(self) -> None:
        if self._fault is not None:
            raise TrackerLost(f"The kernel's events cannot be read: {self._fault}.")
        pages: list[bytes] = []
        for ring in self._rings.values():
            pages += self._pages_of(ring)
        if not pages:
            return
        found, missed = events.parse_pages(pages, self._formats)
        self._missed = self._missed or missed
        now = time.monotonic()
        for seen in self._seen.values():
            seen.add(found, now)

    def _pages_of(self, ring: int) -> Iterator[bytes]:
        with contextlib.suppress(BlockingIOError):  # there is no more
            for _ in range(self._most):  # not for ever, however fast the writers are
                # Empty: there was nothing when it looked, and an event when it looked again.
                if page := os.read(ring, self._page):
                    yield page


def _number(dev: tuple[int, int]) -> int:
    """As the kernel's own `dev_t`, which is not the one of `os.makedev`."""
    return dev[0] << 20 | dev[1]


def _mount() -> None:
    if not (_TRACING / "instances").is_dir():
        run.run("mount", "-t", "tracefs", "tracefs", str(_TRACING))


def _sweep() -> None:
    """Remove the instances of processes that were killed."""
    for home in (_TRACING / "instances").glob("dpsr-*"):
        pid = home.name.removeprefix("dpsr-")
        if pid == str(os.getpid()) or not Path("/proc", pid).exists():
            with contextlib.suppress(OSError):
                home.rmdir()


@contextmanager
def _no_names() -> Iterator[None]:
    """Switch off the recording of process names, a global option.

    Nobody reads them here, and enabling events with it on has crashed emulated guests.
    """
    option = _TRACING / "options" / "record-cmd"
    before = option.read_text()
    option.write_text("0")
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            option.write_text(before)
