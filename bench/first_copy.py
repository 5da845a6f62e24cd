# SPDX-License-Identifier: GPL-3.0-or-later
"""The first copy of a volume: dpsr, partclone -b and dd, one after the other, several rounds.

All three copy the same ext4 between the same two loop devices with direct I/O, and are done when
the target is flushed. partclone and dd copy it unmounted, since they must; dpsr copies it mounted,
tracker, freeze and waiting for a quiet moment of 0 s included. dd copies as many bytes as are in
use. The medians count.
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
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Final

from builder.still.live import LiveOptions, copy_live
from core.model.live import Instant, Source
from core.run import need, run
from core.screen import PlainScreen, human

GIB: Final = 1 << 30
TARGETS: Final = {"partclone": 1.5, "dd": 0.9}
"""How much faster than each peer the first copy should be, at least."""
MEMORY: Final = 200 << 20
RESULT: Final = Path(__file__).resolve().parents[1] / "dist" / "bench-first-copy.md"
_HOURS: Final = 36_000.0


@dataclass(frozen=True, slots=True)
class Bench:
    """What is copied where."""

    source: str
    target: str
    mountpoint: Path
    size: int
    used: int

    def dd(self) -> float:
        """As many bytes as are in use, direct, in pieces of 4 MiB."""
        count = str(-(-self.used // (4 << 20)))
        return self._timed(
            "dd", f"if={self.source}", f"of={self.target}", "bs=4M", f"count={count}",
            "iflag=direct", "oflag=direct", "conv=fsync",
        )  # fmt: skip

    def partclone(self) -> float:
        """Used blocks, device to device."""
        log = self.mountpoint.with_name("partclone.log")
        return self._timed(
            "partclone.ext4", "-b", "-s", self.source, "-O", self.target, "-q", "-L", str(log)
        )

    def dpsr(self) -> tuple[float, int]:
        """The live copy, in a process of its own: seconds, and peak memory in bytes."""
        run("mount", self.source, str(self.mountpoint))
        try:
            with get_context("spawn").Pool(1) as pool:
                return pool.apply(self._copy_live)
        finally:
            run("umount", str(self.mountpoint))

    def _copy_live(self) -> tuple[float, int]:
        number = os.stat(self.source).st_rdev
        source = Source(
            name="root", mountpoint=str(self.mountpoint), device=self.source,
            tracked=(os.major(number), os.minor(number)), offset=0, size=self.size,
            target=self.target,
        )  # fmt: skip
        begun = time.monotonic()
        instant: Instant = copy_live([source], LiveOptions(quiet_for=0), PlainScreen())
        seconds = time.monotonic() - begun
        assert instant.bytes_written >= 0.9 * self.used
        return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    def _timed(self, *argv: str) -> float:
        begun = time.monotonic()
        run(*argv, timeout=_HOURS)
        run("blockdev", "--flushbufs", self.target, timeout=_HOURS)
        return time.monotonic() - begun


def fill(folder: Path, size: int) -> None:
    """About `size` bytes in files as a system has them: many small, few large, some removed."""
    dice = random.Random(1)  # noqa: S311 - the same files each time
    pool = dice.randbytes(8 << 20)
    written = number = 0
    while written < size:
        place = folder / f"{number % 97}"
        place.mkdir(exist_ok=True)
        length = int(dice.paretovariate(0.7) * 2000) % (64 << 20)
        with (place / f"{number}").open("wb") as stream:
            for start in range(0, length, len(pool)):
                stream.write(pool[: length - start])
        written += length
        if dice.random() < 0.2:
            (place / f"{number}").unlink()
            written -= length
        number += 1


@contextmanager
def prepared(folder: Path, size: int) -> Iterator[Bench]:
    """Two loop devices with direct I/O in `folder`, one with an ext4, half full."""
    with ExitStack() as stack:
        devices = []
        for name in ("source", "target"):
            image = folder / name
            with image.open("wb") as stream:
                os.posix_fallocate(stream.fileno(), 0, size)
            device = run("losetup", "--direct-io=on", "--find", "--show", str(image)).strip()
            stack.callback(run, "losetup", "--detach", device)
            devices.append(device)
        source, target = devices
        run("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", source, timeout=600)
        mountpoint = folder / "mnt"
        mountpoint.mkdir()
        run("mount", source, str(mountpoint))
        try:
            fill(mountpoint, size // 2)
            shape = os.statvfs(mountpoint)
            used = size - shape.f_bfree * shape.f_frsize
        finally:
            run("umount", str(mountpoint), timeout=600)
        bench = Bench(source, target, mountpoint, size, used)
        bench.partclone()  # not counted: nobody after this one pays for blocks that are new
        bench.dd()
        yield bench


def main(arguments: Sequence[str]) -> None:
    """Measure, print and write the result."""
    parser = argparse.ArgumentParser(prog="./run bench first-copy", description=__doc__)
    parser.add_argument("--size", type=float, default=8, help="of the volume, in GiB")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where the images are put")
    given = parser.parse_args(arguments)
    if os.geteuid() != 0:
        sys.exit("Loop devices need root: run it with sudo.")
    need("partclone.ext4", "losetup", "mkfs.ext4", "dd")
    seconds: dict[str, list[float]] = {"dpsr": [], "partclone": [], "dd": []}
    peak = 0
    with (
        tempfile.TemporaryDirectory(prefix="dpsr-bench-", dir=given.folder) as folder,
        prepared(Path(folder), int(given.size * GIB)) as bench,
    ):
        for _ in range(given.rounds):
            taken, memory = bench.dpsr()
            seconds["dpsr"].append(taken)
            peak = max(peak, memory)
            seconds["partclone"].append(bench.partclone())
            seconds["dd"].append(bench.dd())
        used = bench.used
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(report(used, seconds, peak), "utf-8")
    figures = {"used_bytes": used, "peak_memory_bytes": peak, "seconds": seconds}
    RESULT.with_suffix(".json").write_text(json.dumps(figures, indent=2), "utf-8")
    print(RESULT.read_text("utf-8"))


def report(used: int, seconds: Mapping[str, Sequence[float]], peak: int) -> str:
    """The medians as a table of Markdown, and how they compare."""
    median = {name: statistics.median(values) for name, values in seconds.items()}
    rounds, processors = len(seconds["dpsr"]), os.cpu_count()
    lines = [
        f"First copy of {human(used)} in use, medians of {rounds} rounds, {processors} processors",
        "",
        "| | seconds | MiB/s | slowest | fastest | dpsr is faster by | wanted |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, value in median.items():
        by = "" if name == "dpsr" else f"{value / median['dpsr']:.2f}"
        lines.append(
            f"| {name} | {value:.2f} | {used / value / (1 << 20):.0f} | {max(seconds[name]):.2f} "
            f"| {min(seconds[name]):.2f} | {by} | {TARGETS.get(name, '')} |"
        )
    lines += ["", f"Peak memory of dpsr: {human(peak)} (wanted: under {human(MEMORY)})", ""]
    return "\n".join(lines)
