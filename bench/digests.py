# SPDX-License-Identifier: GPL-3.0-or-later
"""What the digests cost an update: with and without them in turn, round after round.

The same number of files changes before each. What is measured is the engine: tracker, search,
freeze, undo log, and writing the file of digests durably into the vault. The medians count.
"""

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Final

from bench.first_copy import GIB
from bench.update import CHANGED, TOUCHED, Bench, Size, change, cold, mounted, mounts, prepared
from builder.copying.direct import Writer
from builder.digests.keeper import Keeper, Wanted
from builder.digests.store import Stack
from builder.still.live import LiveOptions, copy_live
from builder.vault.undoformat import LogSlot
from core.model.blockset import EMPTY
from core.model.live import Earlier, Found, Source
from core.model.manifest import DigestFile
from core.run import need
from core.screen import PlainScreen, human

SMALL: Final = Size(disk=4 * GIB, used=1_500_000_000, files=80_000, rsync=0, partclone=0)
WANTED: Final = 1.10
RESULT: Final = Path(__file__).resolve().parents[1] / "dist" / "bench-digests.md"
_WAYS: Final = ("without", "with")


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one update."""

    seconds: float
    processor: float
    """Seconds, all threads together."""
    files: tuple[DigestFile, ...]
    size: int
    """Bytes of the file of digests."""


def measure(
    bench: Bench, earlier: Earlier, number: int, files: tuple[DigestFile, ...] | None
) -> Cost:
    """One update, in a process of its own; `files`: digests before, None: keep none."""
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(_update, (bench, earlier, number, files))


def _update(
    bench: Bench, earlier: Earlier, number: int, files: tuple[DigestFile, ...] | None
) -> Cost:
    device = os.stat(bench.source).st_rdev
    slot = LogSlot("root", 3, 0, bench.size)
    with ExitStack() as stack:
        begun, worked = time.monotonic(), time.process_time()
        keeper = None
        if files is not None:
            before = stack.enter_context(Stack(bench.vault, files)) if files else None
            keeper = stack.enter_context(closing(Keeper(bench.vault, (slot,), before)))

        def begin(found: Mapping[str, Found]) -> dict[str, Writer]:
            del found
            undo = stack.enter_context(bench.undo(bench.size))
            return keeper.writers(undo.writers) if keeper else undo.writers

        source = Source(
            name="root", mountpoint=str(bench.mountpoint), device=bench.source,
            tracked=(os.major(device), os.minor(device)), offset=0, size=bench.size,
            target=bench.slot, earlier=earlier,
            compared=keeper.equal("root") if keeper else None,
        )  # fmt: skip
        instant = copy_live([source], LiveOptions(quiet_for=0), PlainScreen(), begin=begin)
        made: tuple[DigestFile, ...] = ()
        if keeper is not None:
            wanted = {"root": Wanted(instant.used["root"])}
            made = keeper.write(f"{number:032x}", "", wanted, lambda _: bench.slot)
        seconds, processor = time.monotonic() - begun, time.process_time() - worked
    bench.give_identity(instant)
    size = (bench.vault / made[0].file).stat().st_size if made else 0
    return Cost(seconds, processor, made, size)


def main(arguments: Sequence[str]) -> None:
    """Measure, print and write the result."""
    parser = argparse.ArgumentParser(prog="./run bench digests", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--folder", type=Path, help="where the images are put")
    given = parser.parse_args(arguments)
    if os.geteuid() != 0:
        sys.exit("Loop devices need root: run it with sudo.")
    need("partclone.ext4", "losetup", "mkfs.ext4")
    costs: dict[str, list[Cost]] = {way: [] for way in _WAYS}
    with (
        tempfile.TemporaryDirectory(prefix="dpsr-bench-", dir=given.folder) as folder,
        prepared(Path(folder), SMALL) as bench,
    ):
        dice = random.Random(3)  # noqa: S311 - the same changes each time
        earlier = Earlier(always=EMPTY, mounts=mounts(bench.source))
        with mounted(bench.source, bench.mountpoint):
            earlier = replace(earlier, mounts=mounts(bench.source))
            files = measure(bench, replace(earlier, full=True), 1, ()).files
            whole = (bench.vault / files[0].file).stat().st_size
            for number in range(2, 2 * given.rounds + 2):
                way = _WAYS[(number + number // 2) % 2]  # neither is always the second one
                change(bench.mountpoint, SMALL, dice)
                cold()
                cost = measure(bench, earlier, number, files if way == "with" else None)
                files = cost.files or files
                costs[way].append(cost)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(report(costs, whole), "utf-8")
    figures = {
        way: {"seconds": [c.seconds for c in each], "processor": [c.processor for c in each]}
        for way, each in costs.items()
    }
    RESULT.with_suffix(".json").write_text(json.dumps(figures, indent=2), "utf-8")
    print(RESULT.read_text("utf-8"))


def report(costs: Mapping[str, Sequence[Cost]], whole: int) -> str:
    """The medians as a table of Markdown, and their ratio."""
    lines = [
        (
            f"Update of {SMALL.files:,} files, {human(SMALL.used)} in {human(SMALL.disk)}: "
            f"{TOUCHED:,} files changed, {human(CHANGED)}; medians of {len(costs['with'])} rounds "
            f"each, {os.cpu_count()} processors"
        ),
        "",
        "| | without | with digests | ratio | wanted |",
        "|---|---|---|---|---|",
    ]
    for name in ("seconds", "processor"):
        plain, kept = (
            statistics.median(getattr(each, name) for each in costs[way]) for way in _WAYS
        )
        ratio = kept / plain
        lines.append(f"| {name} | {plain:.2f} | {kept:.2f} | {ratio:.3f} | {WANTED:.2f} |")
    last = statistics.median(each.size for each in costs["with"])
    lines += ["", f"All digests: {human(whole)}; of one update: {human(last)}", ""]
    return "\n".join(lines)
