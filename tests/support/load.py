# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that are written all the while, and whether a copy of them is one instant. Runs in guests.

`load.py run FOLDER [FOLDER]...` writes until /run/load.stop is there, then prints a line of JSON;
`load.py check FOLDER [FOLDER]...` proves that what is there could have been on the disks at one
single moment of that run: whatever the writer did later is there only if all that it did before is
there too, across files, ways of writing, and file systems. The standard library alone.
"""

import argparse
import contextlib
import hashlib
import json
import mmap
import os
import random
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path

STOP = Path("/run/load.stop")
PAGES = 64
KEPT = 40
CHOICE = random.Random(1)


class Writer:
    """Everything that happens in the first folder, one deed at a time."""

    def __init__(self, folders: list[Path]) -> None:
        self.home = folders[0]
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
        self.sequences = [open_for_writing(folder / "sequence") for folder in folders]
        self.log = os.open(self.home / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self.holes = open_for_writing(self.home / "holes")
        mapped = open_for_writing(self.home / "mapped")
        os.truncate(mapped, PAGES * mmap.PAGESIZE)
        self.map = mmap.mmap(mapped, 0)
        self.data = [database(self.home, mode) for mode in ("wal", "delete")]
        self.whole: list[Path] = []
        self.count = 0

    def round(self) -> None:
        self.count += 1
        for deed in self.deeds():
            deed()

    def deeds(self) -> list[Callable[[], None]]:
        return [
            self.step,
            self.say,
            self.replace,
            self.map_all,
            self.allocate,
            self.commit,
            self.move,
        ]

    def step(self) -> None:
        """The same number to each file system, always in the same order."""
        for sequence in self.sequences:
            os.pwrite(sequence, f"{self.count:012}".encode(), 0)

    def say(self) -> None:
        """Append a line."""
        os.write(self.log, f"{self.count} {digest(str(self.count).encode())}\n".encode())

    def replace(self) -> None:
        """A new file that takes its name when it is complete; old ones go."""
        content = CHOICE.randbytes(CHOICE.choice((0, 100, 5000, 60_000, 300_000)))
        part = self.home / "part"
        part.write_bytes(content)
        path = self.home / f"whole-{self.count}-{digest(content)}"
        part.rename(path)
        self.whole.append(path)
        if len(self.whole) > KEPT:
            self.whole.pop(CHOICE.randrange(KEPT)).unlink()

    def map_all(self) -> None:
        """The same number through memory into each page, always in the same order."""
        for page in range(PAGES):
            at = page * mmap.PAGESIZE + 8 * page
            self.map[at : at + 8] = self.count.to_bytes(8, "big")

    def allocate(self) -> None:
        """Space that is reserved, and some of it written; all of it given back in time."""
        at = self.count % 50 * 65536
        os.posix_fallocate(self.holes, at, 65536)
        os.pwrite(self.holes, f"{self.count:012}".encode() * 400, at + 8192)
        if at == 0:
            os.truncate(self.holes, 0)

    def commit(self) -> None:
        """Two rows in one transaction."""
        for data in self.data:
            with data:
                for sign in (1, -1):
                    data.execute(
                        "insert into t values (?, ?)", (sign * self.count, os.urandom(200))
                    )
                data.execute("delete from t where abs(n) < ?", (self.count - 500,))

    def move(self) -> None:
        """Folders, links and attributes."""
        folder = self.home / f"folder-{self.count % 7}"
        other = self.home / f"moved-{self.count % 5}"
        folder.mkdir(exist_ok=True)
        (folder / "file").write_text(str(self.count))
        with contextlib.suppress(OSError):
            os.setxattr(folder / "file", "user.count", str(self.count).encode() * 30)
        for name in ("hard", "soft"):
            (self.home / name).unlink(missing_ok=True)
        os.link(folder / "file", self.home / "hard")
        (self.home / "soft").symlink_to(folder / "file")
        if other.exists():
            (other / "file").unlink()
            other.rmdir()
        folder.rename(other)


def open_for_writing(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o644)


def database(folder: Path, mode: str) -> sqlite3.Connection:
    data = sqlite3.connect(folder / f"{mode}.db", timeout=300)
    data.execute(f"pragma journal_mode={mode}")
    data.execute("create table if not exists t (n integer, filler blob)")
    return data


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def run(folders: list[Path]) -> dict[str, float]:
    """Write until told to stop; say how many deeds that were and how long the slowest took."""
    writer = Writer(folders)
    deeds = writer.deeds()
    longest = 0.0
    while not STOP.exists():
        writer.count += 1
        for deed in deeds:
            begun = time.monotonic()
            deed()
            longest = max(longest, time.monotonic() - begun)
            time.sleep(0.01)
    return {"rounds": writer.count, "longest_seconds": round(longest, 3)}


def check(folders: list[Path]) -> dict[str, int]:
    """Raise AssertionError when what is there never was at one moment; say what was looked at.

    The number of a round may be missing from what comes later in it, never the other way round.
    """
    home = folders[0]
    numbers = [int((folder / "sequence").read_bytes()) for folder in folders]
    order = [*numbers]
    lines = (home / "log").read_text().splitlines(keepends=True)
    for at, line in enumerate(lines, 1):
        assert line == f"{at} {digest(str(at).encode())}\n", f"line {at} of the log is {line!r}"
    order.append(len(lines))
    wholes = list(home.glob("whole-*"))
    newest = 0
    for path in wholes:
        _, count, name = path.name.split("-")
        assert digest(path.read_bytes()) == name, f"{path} is not what it was when it was complete"
        newest = max(newest, int(count))
    order.append(newest)
    pages = (home / "mapped").read_bytes()
    places = [page * mmap.PAGESIZE + 8 * page for page in range(PAGES)]
    order += [int.from_bytes(pages[at : at + 8], "big") for at in places]
    for mode in ("wal", "delete"):
        with contextlib.closing(sqlite3.connect(home / f"{mode}.db", timeout=60)) as data:
            said = data.execute("pragma integrity_check").fetchall()
            assert said == [("ok",)], f"{mode}.db: {said[:5]}"
            rows, total, last = data.execute("select count(*), sum(n), max(n) from t").fetchone()
        assert rows % 2 == 0, f"{mode}.db holds half a transaction: {rows} rows"
        assert total == 0, f"{mode}.db holds half a transaction: the sum is {total}"
        order.append(last)
    assert order == sorted(order, reverse=True), f"later writes without earlier ones: {order}"
    assert order[0] - order[-1] <= 1, f"more than one round apart: {order}"
    assert order[-1] > 0, "nothing was written yet"
    return {"round": order[0], "whole_files": len(wholes), "volumes": len(folders)}


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["run", "check"])
    parser.add_argument("folders", nargs="+", type=Path)
    given = parser.parse_args()
    said = run(given.folders) if given.what == "run" else check(given.folders)
    sys.stdout.write(json.dumps(said) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
