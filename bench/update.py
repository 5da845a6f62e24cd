# SPDX-License-Identifier: GPL-3.0-or-later
"""The routine backup of a volume: dpsr, rsync and partclone -b, several rounds one after the other.

Before each round some files change. Then each brings its own copy up to date, over loop devices
with direct I/O and with cold caches: dpsr the mounted volume, tracker, freeze, undo log and
waiting for a quiet moment of 0 s included; rsync from mount to mount; partclone unmounted, since
it must. These two share a copy, which each finds as the round before left it. `floor` reads the
inode tables of both sides and writes what dpsr has written, and nothing else. The medians count.

Three images, each as large as what is in use: 20 GB of disk, and with `--large` 40 GB.
"""

import argparse
import json
import os
import random
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Final

from bench.first_copy import GIB, MEMORY
from builder.change.ext4.detector import Ext4
from builder.copying.direct import Reader, SlotWriter, Writer, buffer
from builder.copying.undo import Undo
from builder.still.live import LiveOptions, copy_live
from builder.vault.undoformat import Header, LogSlot
from builder.vault.undolog import LogFile
from core.model.blockset import EMPTY, BlockSet
from core.model.live import Earlier, Found, Instant, Source
from core.model.state import State
from core.run import need, run
from core.screen import PlainScreen, human

TOUCHED: Final = 2300
CHANGED: Final = 110_000_000
"""Bytes, in all touched files together."""
RESULT: Final = Path(__file__).resolve().parents[1] / "dist" / "bench-update.md"
_HOURS: Final = 36_000.0
_FOLDER: Final = 300
"""Files in one folder."""
_PIECE: Final = 4 << 20
_TXID: Final = "0" * 32


@dataclass(frozen=True, slots=True)
class Size:
    """How large a volume is measured, and how much faster than each peer an update should be."""

    disk: int
    used: int
    files: int
    rsync: float
    partclone: float
    floor: float = 0.5


SMALL: Final = Size(disk=12 * GIB, used=5_500_000_000, files=300_000, rsync=5, partclone=8)
LARGE: Final = Size(disk=120 * GIB, used=5_500_000_000, files=1_500_000, rsync=5, partclone=20)


@dataclass(frozen=True, slots=True)
class Done:
    """What one run of dpsr took, and of what."""

    seconds: float
    floor: float
    peak: int
    examined: int
    written: int
    stall: float
    detector: str
    mounts: int


@dataclass(frozen=True, slots=True)
class Bench:
    """The devices: the volume, and a copy of it for each."""

    source: str
    slot: str
    peer: str
    """The copy of rsync and partclone."""
    mountpoint: Path
    synced: Path
    """Where it is mounted for rsync."""
    vault: Path
    size: int

    def rsync(self) -> float:
        """From mount to mount, everything that rsync can keep."""
        return _timed(
            "rsync", "-aHAX", "--delete", f"{self.mountpoint}/", f"{self.synced}/",
            flush=("sync", "--file-system", str(self.synced)),
        )  # fmt: skip

    def partclone(self) -> float:
        """Used blocks, device to device."""
        log = str(self.vault.with_name("partclone.log"))
        return _timed(
            "partclone.ext4", "-b", "-s", self.source, "-O", self.peer, "-q", "-L", log,
            flush=("blockdev", "--flushbufs", self.peer),
        )  # fmt: skip

    def dpsr(self, earlier: Earlier) -> Done:
        """The update, in a process of its own."""
        with get_context("spawn").Pool(1) as pool:
            return pool.apply(self._update, (earlier,))

    def _update(self, earlier: Earlier) -> Done:
        number = os.stat(self.source).st_rdev
        source = Source(
            name="root", mountpoint=str(self.mountpoint), device=self.source,
            tracked=(os.major(number), os.minor(number)), offset=0, size=self.size,
            target=self.slot, earlier=earlier,
        )  # fmt: skip
        written: list[tuple[int, int]] = []
        with ExitStack() as stack:

            def begin(found: Mapping[str, Found]) -> dict[str, Writer]:
                del found
                undo = stack.enter_context(self.undo(source.size))
                return {"root": _Noted(undo.writers["root"], written)}

            begun = time.monotonic()
            instant = copy_live([source], LiveOptions(quiet_for=0), PlainScreen(), begin=begin)
            seconds = time.monotonic() - begun
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        self.give_identity(instant)
        return Done(
            seconds=seconds,
            floor=self._floor(BlockSet.of(written)),
            peak=peak,
            examined=instant.bytes_examined,
            written=instant.bytes_written,
            stall=instant.stall_seconds,
            detector=instant.detectors["root"],
            mounts=instant.mounts["root"],
        )

    @contextmanager
    def undo(self, size: int) -> Iterator[Undo]:
        """Who writes the slot in a real update."""
        before = State("clean", gen=1, taken="2026-01-01T00:00:00+00:00", txid=_TXID, slot="0000")
        slots = (LogSlot("root", 3, 0, size),)
        path = self.vault / "undo"
        path.unlink(missing_ok=True)
        header = Header(_TXID, "bench", "", before, 2, "", slots)
        with closing(LogFile(path, header, lambda: False)) as log:
            identity = {"root": BlockSet.of([(0, 4096)])}
            with Undo(log, [(slots[0], self.slot)], identity) as undo:
                yield undo
                log.seal()

    def give_identity(self, instant: Instant) -> None:
        """That of the volume: nobody looks at it here but the next update."""
        with closing(SlotWriter(self.slot)) as writer:
            for offset, content in instant.identity["root"]:
                view = buffer(len(content))
                view[:] = content
                writer.write(offset, view)
            writer.flush()

    def _floor(self, written: BlockSet) -> float:
        """What no update by inode tables can do without."""
        with (
            closing(Reader(self.source)) as ours,
            closing(Reader(self.slot)) as theirs,
            closing(SlotWriter(self.slot)) as writer,
            ThreadPoolExecutor(2) as pool,
        ):
            work = Ext4(ours, theirs).work
            pieces = []
            for start, end in written.pieces(_PIECE):
                view = buffer(end - start)
                theirs.read_into(start, view)
                pieces.append((start, view))
            begun = time.monotonic()
            list(pool.map(lambda side: _read(side, work), (ours, theirs)))
            for start, view in pieces:
                writer.write(start, view)
            writer.flush()
            return time.monotonic() - begun


class _Noted:
    """A writer that notes where it was written."""

    def __init__(self, under: Writer, places: list[tuple[int, int]]) -> None:
        self._under = under
        self._places = places

    def write(self, offset: int, view: memoryview) -> None:
        self._places.append((offset, offset + len(view)))
        self._under.write(offset, view)

    def flush(self) -> None:
        self._under.flush()


def _read(side: Reader, size: int) -> None:
    """Read as many bytes as the inode tables have, from where most of them are."""
    room = buffer(_PIECE)
    for offset in range(_PIECE, _PIECE + size, _PIECE):
        side.read_into(offset, room)


def _timed(*argv: str, flush: Sequence[str]) -> float:
    begun = time.monotonic()
    run(*argv, timeout=_HOURS)
    run(*flush, timeout=_HOURS)
    return time.monotonic() - begun


def place(top: Path, number: int) -> Path:
    """Where file `number` is."""
    return top / f"{number // _FOLDER:05}" / f"{number % _FOLDER:03}"


def fill(top: Path, size: Size) -> None:
    """Very many files, most of them small; some bytes of each are its own."""
    dice = random.Random(1)  # noqa: S311 - the same files each time
    pool = dice.randbytes(1 << 20)
    mean = size.used / size.files
    for number in range(size.files):
        if number % _FOLDER == 0:
            place(top, number).parent.mkdir()
        length = min(int(dice.paretovariate(1.25) * mean / 5.6), 60 << 20)
        at = dice.randrange(len(pool) // 2)
        with place(top, number).open("wb") as stream:
            stream.write(b"%d" % number)
            for start in range(0, length, len(pool) // 2):
                stream.write(pool[at : at + min(length - start, len(pool) // 2)])


def change(top: Path, size: Size, dice: random.Random) -> None:
    """Touch files all over the volume, as a day does."""
    for number in dice.sample(range(size.files), TOUCHED):
        place(top, number).write_bytes(dice.randbytes(CHANGED // TOUCHED))


def cold() -> None:
    """Empty the caches."""
    run("sync", timeout=_HOURS)
    Path("/proc/sys/vm/drop_caches").write_text("3")


@contextmanager
def prepared(folder: Path, size: Size) -> Iterator[Bench]:
    """A volume with files in it, and two complete copies."""
    with ExitStack() as stack:
        devices = []
        for name in ("source", "slot", "peer", "vault"):
            image = folder / f"{name}.img"
            with image.open("wb") as stream:
                stream.truncate(size.disk if name != "vault" else 4 * GIB)
            device = run("losetup", "--direct-io=on", "--find", "--show", str(image)).strip()
            stack.callback(run, "losetup", "--detach", device)
            devices.append(device)
        source, slot, peer, vault = devices
        for device in (source, vault):
            run("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", device,
                timeout=_HOURS)  # fmt: skip
        mountpoint, mirror, log = (folder / name for name in ("mnt", "synced", "vault"))
        for where in (mountpoint, mirror, log):
            where.mkdir()
        bench = Bench(source, slot, peer, mountpoint, mirror, log, size.disk)
        with mounted(source, mountpoint):
            fill(mountpoint, size)
        _dig_holes(folder / "source.img")
        for name, target in (("slot", slot), ("peer", peer)):
            replace(bench, peer=target).partclone()
            _dig_holes(folder / f"{name}.img")
        with mounted(vault, log):
            yield bench


def _dig_holes(image: Path) -> None:
    """Inode tables and a journal that are not in use need no room: 3 GB in 120 GiB."""
    run("fallocate", "--dig-holes", str(image), timeout=_HOURS)


@contextmanager
def mounted(device: str, where: Path) -> Iterator[None]:
    """A file system, mounted."""
    run("mount", device, str(where))
    try:
        yield
    finally:
        run("umount", str(where), timeout=_HOURS)


def main(arguments: Sequence[str]) -> None:
    """Measure, print and write the result."""
    parser = argparse.ArgumentParser(prog="./run bench update", description=__doc__)
    parser.add_argument("--large", action="store_true", help="ten times the disk")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where the images are put")
    given = parser.parse_args(arguments)
    if os.geteuid() != 0:
        sys.exit("Loop devices need root: run it with sudo.")
    need("partclone.ext4", "losetup", "mkfs.ext4", "rsync")
    size = LARGE if given.large else SMALL
    seconds: dict[str, list[float]] = {"dpsr": [], "rsync": [], "partclone": [], "floor": []}
    runs = []
    with (
        tempfile.TemporaryDirectory(prefix="dpsr-bench-", dir=given.folder) as folder,
        prepared(Path(folder), size) as bench,
    ):
        dice = random.Random(2)  # noqa: S311 - the same changes each time
        for _ in range(given.rounds):
            with mounted(bench.source, bench.mountpoint):
                change(bench.mountpoint, size, dice)
                cold()
                done = bench.dpsr(Earlier(always=EMPTY, mounts=mounts(bench.source)))
                with mounted(bench.peer, bench.synced):
                    cold()
                    seconds["rsync"].append(bench.rsync())
            cold()
            seconds["partclone"].append(bench.partclone())
            seconds["dpsr"].append(done.seconds)
            seconds["floor"].append(done.floor)
            runs.append(done)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(report(size, seconds, runs), "utf-8")
    figures = {"peak_memory_bytes": max(done.peak for done in runs), "seconds": seconds}
    RESULT.with_suffix(".json").write_text(json.dumps(figures, indent=2), "utf-8")
    print(RESULT.read_text("utf-8"))


def mounts(device: str) -> int:
    """How often its file system was mounted."""
    said = run("dumpe2fs", "-h", device)
    return int(said.partition("Mount count:")[2].split()[0])


def report(size: Size, seconds: Mapping[str, Sequence[float]], runs: Sequence[Done]) -> str:
    """The medians as a table of Markdown, and how they compare."""
    median = {name: statistics.median(values) for name, values in seconds.items()}
    wanted = {"rsync": size.rsync, "partclone": size.partclone, "floor": size.floor}
    lines = [
        (
            f"Update of {size.files:,} files, {human(size.used)} in {human(size.disk)}: "
            f"{TOUCHED:,} files changed, {human(CHANGED)}; medians of {len(runs)} rounds, "
            f"{os.cpu_count()} processors"
        ),
        "",
        "| | seconds | slowest | fastest | dpsr is faster by | wanted |",
        "|---|---|---|---|---|---|",
    ]
    for name, value in median.items():
        by = "" if name == "dpsr" else f"{value / median['dpsr']:.2f}"
        lines.append(
            f"| {name} | {value:.2f} | {max(seconds[name]):.2f} | {min(seconds[name]):.2f} "
            f"| {by} | {wanted.get(name, '')} |"
        )
    last = runs[-1]
    lines += [
        "",
        (
            f"The last update ({last.detector}): {human(last.examined)} examined, "
            f"{human(last.written)} written with an undo log, writers stalled {last.stall:.2f} s"
        ),
        "",
        (
            f"Peak memory of dpsr: {human(max(done.peak for done in runs))} (wanted: under "
            f"{human(MEMORY)})"
        ),
        "",
    ]
    return "\n".join(lines)
