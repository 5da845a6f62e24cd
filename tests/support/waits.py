# SPDX-License-Identifier: GPL-3.0-or-later
"""Writers that measure how long each of their writes takes. Runs in guests.

`waits.py FOLDER HOW OUT` writes to FOLDER until /run/waits.stop is there, `HOW`: `plain` writes,
which wait for nothing but a freeze and the journal, or `fsync` after each, or `sqlite` commits. OUT
gets JSON: how many writes there were, and begin and end of those that took long, by
CLOCK_MONOTONIC. The standard library alone.
"""

import contextlib
import json
import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

STOP = Path("/run/waits.stop")
LONG = 0.01
"""Seconds."""
PAUSE = 0.001
"""Seconds between two writes: the writers must leave the processors to others."""


@contextlib.contextmanager
def plain(folder: Path) -> Iterator[Callable[[int], None]]:
    with open(folder / "plain", "wb", buffering=0) as file:

        def write(number: int) -> None:
            os.pwrite(file.fileno(), number.to_bytes(8, "big"), 0)

        yield write


@contextlib.contextmanager
def fsync(folder: Path) -> Iterator[Callable[[int], None]]:
    with open(folder / "fsync", "wb", buffering=0) as file:

        def write(number: int) -> None:
            os.pwrite(file.fileno(), number.to_bytes(8, "big"), 0)
            os.fsync(file.fileno())

        yield write


@contextlib.contextmanager
def sqlite(folder: Path) -> Iterator[Callable[[int], None]]:
    with contextlib.closing(sqlite3.connect(folder / "waits.db", timeout=300)) as data:
        data.execute("pragma journal_mode=wal")
        data.execute("pragma synchronous=full")
        data.execute("create table if not exists t (n integer)")
        data.commit()

        def write(number: int) -> None:
            with data:
                data.execute("insert into t values (?)", (number,))

        yield write


def main() -> int:
    folder, how, out = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    waits: list[tuple[float, float]] = []
    number = 0
    with {"plain": plain, "fsync": fsync, "sqlite": sqlite}[how](folder) as write:
        while not STOP.exists():
            number += 1
            begun = time.monotonic()
            write(number)
            if (ended := time.monotonic()) - begun > LONG:
                waits.append((begun, ended))
            time.sleep(PAUSE)
    out.write_text(json.dumps({"writes": number, "waits": waits}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
