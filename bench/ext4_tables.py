# SPDX-License-Identifier: GPL-3.0-or-later
"""How long the ext4 detector takes, and how much memory, beside reading the inode tables only.

`python -m bench.ext4_tables [--files N] [--size GIB] [--huge]` as root. Everything lies in memory
(a tmpfs), so the figures are those of the processor. `--huge`: a sparse file system of 8 TiB whose
descriptors say that all of its 256 million inodes were used once.
"""

import argparse
import os
import resource
import shutil
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from builder.change.ext4.detector import Ext4
from builder.change.used import used
from builder.copying.direct import Reader, buffer
from core.model.blockset import EMPTY, BlockSet
from core.run import run
from core.screen import human

T = TypeVar("T")
_TOUCHED = 2300
_PIECE = 4 << 20


def main() -> None:
    """Measure and print a line for each figure."""
    parser = argparse.ArgumentParser(prog="bench.ext4_tables")
    parser.add_argument("--files", type=int, default=300_000)
    parser.add_argument("--size", type=int, default=12, help="GiB")
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm"))  # noqa: S108
    parser.add_argument("--huge", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dpsr-bench-", dir=options.folder) as name:
        if options.huge:
            huge(Path(name))
        else:
            ordinary(Path(name), options.files, options.size << 30)


def ordinary(folder: Path, files: int, size: int) -> None:
    """A volume of many small files, some of them touched since the copy was made."""
    volume, slot, top = folder / "volume", folder / "slot", folder / "mnt"
    top.mkdir()
    make(volume, size)
    run("mount", "-o", "loop", str(volume), str(top))
    try:
        for number in range(files):
            if number % 300 == 0:
                (top / f"{number // 300:05}").mkdir()
            path = top / f"{number // 300:05}" / f"{number % 300:03}"
            path.write_bytes(b"x" * 3000)
        os.sync()
        run("fsfreeze", "-f", str(top))
        run("fsfreeze", "-u", str(top))
        run("cp", "--sparse=always", str(volume), str(slot), timeout=600)
        for number in range(0, files, max(1, files // _TOUCHED)):
            path = top / f"{number // 300:05}" / f"{number % 300:03}"
            path.write_bytes(b"y" * 3000)
        run("fsfreeze", "-f", str(top))
        try:
            map_ = used(str(top), size)
            with closing(Reader(str(volume))) as ours, closing(Reader(str(slot))) as theirs:
                measure(ours, theirs, map_)
        finally:
            run("fsfreeze", "-u", str(top))
    finally:
        run("umount", str(top))


def measure(ours: Reader, theirs: Reader, map_: BlockSet) -> None:
    """One run of the detector, and the same tables only read, one side after the other."""
    before = peak()
    ext4 = Ext4(ours, theirs)
    say("inode tables, each side", human(ext4.work))
    baseline = timed("read both sides' tables", lambda: read_both(ours, theirs, ext4.work))
    found = timed("find", lambda: ext4.find(map_, EMPTY, lambda _: None))
    say("find / reading the tables", f"{found[1] / baseline[1]:.2f}")
    say("examined by find, both sides", human(ext4.examined))
    say("candidates", f"{human(found[0].total)} in {len(found[0])} ranges")
    written = BlockSet.of([(start, start + 4096) for start, _ in list(found[0])[::50]])
    timed("reparse, live", lambda: ext4.reparse(written, still=False))
    timed("reparse, frozen", lambda: ext4.reparse(written, still=True))
    say("memory: peak", human(peak()))
    say("memory: before", human(before))


def huge(folder: Path) -> None:
    """8 TiB, with as many inodes as mke2fs makes for it, all of them once used."""
    volume, slot = folder / "volume", folder / "slot"
    make(volume, 8 << 40)
    say_all_used(volume)
    run("cp", "--sparse=always", str(volume), str(slot), timeout=3600)
    with closing(Reader(str(volume))) as ours, closing(Reader(str(slot))) as theirs:
        before = peak()
        ext4 = Ext4(ours, theirs)
        say("inode tables, each side", human(ext4.work))
        found = timed("find", lambda: ext4.find(EMPTY, EMPTY, lambda _: None))
        say("candidates", f"{human(found[0].total)} in {len(found[0])} ranges")
        say("memory: peak", human(peak()))
        say("memory: before", human(before))


def make(image: Path, size: int) -> None:
    """An ext4 as Debian 13 makes it, in a sparse file."""
    with image.open("wb") as stream:
        stream.truncate(size)
    run(
        "mke2fs",
        "-q",
        "-t",
        "ext4",
        "-O",
        "metadata_csum_seed,orphan_file",
        str(image),
        timeout=600,
    )


def say_all_used(image: Path) -> None:
    """Clear INODE_UNINIT and the count of unused inodes in every descriptor."""
    with image.open("r+b") as stream:
        stream.seek(1024)
        head = stream.read(1024)
        blocks = (
            struct.unpack_from("<I", head, 0x4)[0] | struct.unpack_from("<I", head, 0x150)[0] << 32
        )
        groups = -(-blocks // struct.unpack_from("<I", head, 0x20)[0])
        stream.seek(4096)
        table = bytearray(stream.read(groups * 64))
        for at in range(0, len(table), 64):
            struct.pack_into("<H", table, at + 0x12, 4)
            struct.pack_into("<H", table, at + 0x1C, 0)
            struct.pack_into("<H", table, at + 0x32, 0)
        stream.seek(4096)
        stream.write(table)


def read_both(ours: Reader, theirs: Reader, size: int) -> None:
    """Read as many bytes as the tables have, from where most of them are."""
    room = buffer(_PIECE)
    for side in (ours, theirs):
        for offset in range(_PIECE, _PIECE + size, _PIECE):
            side.read_into(offset, room)


def timed(what: str, work: Callable[[], T]) -> tuple[T, float]:
    """Do `work` and say how long it took."""
    begun, processor = time.monotonic(), time.process_time()
    result = work()
    seconds = time.monotonic() - begun
    say(what, f"{seconds:.3f} s ({time.process_time() - processor:.3f} s of processor)")
    return result, seconds


def peak() -> int:
    """Most memory that this process had so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def say(what: str, figure: str) -> None:
    """Print one figure."""
    sys.stdout.write(f"{what:32} {figure}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    assert shutil.which("mke2fs"), "this needs e2fsprogs"
    main()
