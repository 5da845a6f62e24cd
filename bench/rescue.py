# SPDX-License-Identifier: GPL-3.0-or-later
"""From power-on to login: after an interrupted update of 100 MB, and an ordinary start of the copy.

Both in one run and of one disk, in QEMU, by UEFI and by BIOS, in turn, several rounds. The repair
may take what it takes to write those 100 MB besides. The medians count.
"""

import argparse
import contextlib
import json
import re
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, get_args

from core.run import run
from images import cache, disks, sample
from images.guest import Guest
from images.recipe import Recipe
from images.vm import DiskSpec, Firmware
from images.wire import Refusal

CHANGED: Final = 100_000_000
"""Bytes."""
MOST: Final = 1.5
"""How much longer it may take, the time to write `CHANGED` left out."""
RESULT: Final = Path(__file__).resolve().parents[1] / "dist" / "bench-rescue.md"
_SERIAL: Final = "DPSR-DISK"
_ROOM: Final = 6 << 30
_POINTS: Final = "/run/dpsr-points"
_SETTINGS: Final = "quiet_for = 1.0\nquiet_wait = 3.0\n"
_LONG: Final = 1800.0
_REPAIRED: Final = "the copy is complete again"
_WRITE: Final = (
    f"dd if=/dev/urandom of=/var/tmp/new bs=1000000 count={CHANGED // 1_000_000} status=none; "
    "sync; a=$(date +%s.%N); "
    "dd if=/var/tmp/new of=/var/tmp/again bs=1M oflag=direct conv=fsync status=none; "
    'echo "$a $(date +%s.%N)"'
)


@dataclass(frozen=True, slots=True)
class Disks:
    """The DPSR disk, complete and in the middle of an update."""

    complete: DiskSpec
    cut: DiskSpec
    kernel: Path


def prepared(folder: Path, deb: Path) -> Disks:
    """Make both."""
    system = sample.installed(sample.build(Recipe(), print), deb, print)
    disk = disks.new_disk(folder / "dpsr.qcow2", _ROOM)
    spec = DiskSpec(disk, "scsi", _SERIAL, overlay=False, cache="writeback")
    complete, cut = folder / "complete.qcow2", folder / "cut.qcow2"
    with sample.booted(system, [spec], print) as guest:
        guest.sh("mkdir -p /etc/dpsr")
        guest.put("/etc/dpsr/dpsr.toml", _SETTINGS)
        guest.run("dpsr", "prepare", _SERIAL, "--yes", timeout=_LONG)
        guest.monitor.command("stop")
        run("qemu-img", "convert", "--force-share", "-O", "qcow2", str(disk), str(complete),
            timeout=_LONG)  # fmt: skip
        guest.monitor.command("cont")
        guest.sh(f"head -c {CHANGED} /dev/urandom > /srv/new; sync", timeout=_LONG)
        guest.sh(f"mkdir -p {_POINTS}; touch {_POINTS}/fixed")
        job = guest.start("env", f"DPSR_TEST_POINTS={_POINTS}", "dpsr", "update")
        deadline = time.monotonic() + _LONG
        while True:
            with contextlib.suppress(Refusal):
                guest.get(f"{_POINTS}/fixed.reached")
                break
            if job.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"The update did not get so far: {job.poll()}")
            time.sleep(0.5)
        guest.pull_power(kill=True)
    disk.rename(cut)
    spec = replace(spec, overlay=True, cache="unsafe")
    return Disks(replace(spec, path=complete), replace(spec, path=cut), system.kernel)


def start(disk: DiskSpec, firmware: Firmware, kernel: Path) -> tuple[float, bool]:
    """Seconds from power-on until the system has started, and whether it was repaired before."""
    with Guest([disk], firmware, kernel=kernel) as guest:
        begun = time.monotonic()
        guest.wait_up(_LONG)
        return time.monotonic() - begun, _REPAIRED in guest.said


def writing(disk: DiskSpec, firmware: Firmware, kernel: Path) -> float:
    """Seconds that the copy takes to write `CHANGED` bytes."""
    with Guest([disk], firmware, kernel=kernel) as guest:
        guest.wait_up(_LONG)
        begun, ended = map(float, guest.sh(_WRITE, timeout=_LONG).split())
        return ended - begun


def main(arguments: Sequence[str]) -> None:
    """Measure, print and write the result."""
    parser = argparse.ArgumentParser(prog="./run bench rescue", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--firmware", choices=get_args(Firmware), action="append")
    given = parser.parse_args(arguments)
    packages = sorted(RESULT.parent.glob("dpsr_*_all.deb"), key=lambda path: path.stat().st_mtime)
    if not packages:
        sys.exit("There is no package in dist/: run ./run deb first.")
    seconds: dict[str, list[float]] = {}
    with cache.scratch() as folder:
        made = prepared(folder, packages[-1])
        firmwares: Sequence[Firmware] = given.firmware or get_args(Firmware)
        written = writing(made.complete, firmwares[0], made.kernel)
        for _ in range(given.rounds):
            for firmware in firmwares:
                for name, disk in (("ordinary", made.complete), ("repaired", made.cut)):
                    taken, repaired = start(disk, firmware, made.kernel)
                    if repaired != (name == "repaired"):
                        sys.exit(f"The start called {name} was not that.")
                    print(f"{firmware}, {name}: {taken:.1f} s", flush=True)
                    seconds.setdefault(f"{firmware} {name}", []).append(taken)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(report(seconds, written), "utf-8")
    figures = {"write_seconds": written, "seconds": seconds}
    RESULT.with_suffix(".json").write_text(json.dumps(figures, indent=2), "utf-8")
    print(RESULT.read_text("utf-8"))


def report(seconds: Mapping[str, Sequence[float]], written: float) -> str:
    """The medians as a table of Markdown, and how they compare."""
    median = {name: statistics.median(values) for name, values in seconds.items()}
    rounds = len(next(iter(seconds.values())))
    write = f"to write {CHANGED // 1_000_000} MB takes {written:.1f} s"
    lines = [
        f"From power-on to login, medians of {rounds} rounds; {write}",
        "",
        "| firmware | ordinary, s | after an interrupted update, s | longer by | wanted |",
        "|---|---|---|---|---|",
    ]
    for name, plain in median.items():
        if found := re.fullmatch(r"(\w+) ordinary", name):
            repaired = median[f"{found[1]} repaired"]
            lines.append(
                f"| {found[1]} | {plain:.1f} | {repaired:.1f} "
                f"| {(repaired - written) / plain:.2f} | at most {MOST} |"
            )
    return "\n".join([*lines, ""])
