# SPDX-License-Identifier: GPL-3.0-or-later
"""Updates a copy of 8 TiB that hold next to nothing, and prints how much memory that took, in MiB.

`huge_update.py FOLDER [full] [in pieces]`: FOLDER is on a file system that can hold so large a
sparse file. `in pieces`: the kernel's used map is made to have millions of free extents, by saying
of single blocks of free space that they are used.
"""

import os
import resource
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from builder.change.free import Free, Numbers
from builder.copying.direct import SlotWriter
from builder.still import live
from builder.still.live import LiveOptions, copy_live
from builder.still.volume import Volume, open_volume
from core.model.blockset import EMPTY
from core.model.live import Earlier, Instant
from core.run import run
from core.screen import PlainScreen
from tests.support import block

SIZE: Final = 8 << 40
BLOCK: Final = 4096
FILES: Final = 2000
PIECES: Final = 3_000_000
_PAGE: Final = 8192


def main(folder: Path, *, full: bool, in_pieces: bool) -> None:
    if in_pieces:  # pytest's patches would be in the figure
        vars(live)["open_volume"] = open_in_pieces
    volume, slot = (block.image(folder / name, SIZE) for name in ("volume", "slot"))
    run("mke2fs", "-q", "-t", "ext4", "-E", "lazy_itable_init=0", str(volume), timeout=900)
    with (
        block.loop(volume) as device,
        block.mounted(device, folder / "mnt") as top,
        closing(SlotWriter(str(slot))) as writer,
    ):
        write(top, 1)
        for action in ("--freeze", "--unfreeze"):
            run("sync")
            run("fsfreeze", action, str(top))
        run("cp", "--sparse=always", str(volume), str(slot), timeout=900)
        write(top, 3)
        source = block.source("root", device, top, str(slot))
        known = replace(source, earlier=Earlier(EMPTY, mounts=1, full=full))
        instant: Instant = copy_live(
            [known], LiveOptions(quiet_for=0, max_freeze=30), PlainScreen(),
            begin=lambda _: {"root": writer},
        )  # fmt: skip
    assert instant.detectors["root"] == ("compare" if full else "ext4")
    assert instant.bytes_written > FILES // 3 * 4096
    if in_pieces:
        assert InPieces.told >= PIECES
        assert len(instant.used["root"]) > 50_000
    sys.stderr.write(f"{instant.stall_seconds:.2f} s frozen, {instant.passes} passes\n")
    sys.stdout.write(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f}\n")


def open_in_pieces(*args: Any, **options: Any) -> Volume:
    opened = open_volume(*args, **options)
    opened._free = InPieces()
    return opened


class InPieces(Free):
    """Breaks the first free extents into many: most short, some long."""

    told = 0
    """In the last map."""

    def begin(self) -> None:
        super().begin()
        self._left = PIECES
        self._chance = np.random.default_rng(1)  # the same each time

    def add(self, starts: Numbers, ends: Numbers) -> None:
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
            at = start
            while self._left > 0 and (count := min(_PAGE, (end - at) // (64 * BLOCK))):
                blocks = np.minimum(self._chance.geometric(0.5, count), 63)
                stops = at + np.cumsum(blocks + 1) * BLOCK
                super().add(stops - blocks * BLOCK, stops)
                self._left -= count
                at = int(stops[-1])
            super().add(np.array([at + BLOCK]), np.array([end]))
        InPieces.told = PIECES - self._left


def write(top: Path, step: int) -> None:
    for number in range(0, FILES, step):
        (top / f"{number}").write_bytes(os.urandom(3000))


if __name__ == "__main__":
    main(Path(sys.argv[1]), full="full" in sys.argv[2:], in_pieces="in pieces" in sys.argv[2:])
