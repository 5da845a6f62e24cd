# SPDX-License-Identifier: GPL-3.0-or-later
"""Updates a copy of 8 TiB that hold next to nothing, and prints how much memory that took, in MiB.

`huge_update.py FOLDER [full]`: FOLDER is on a file system that can hold so large a sparse file.
"""

import os
import resource
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Final

from builder.copying.direct import SlotWriter
from builder.still.live import LiveOptions, copy_live
from core.model.blockset import EMPTY
from core.model.live import Earlier, Instant
from core.run import run
from core.screen import PlainScreen
from tests.support import block

SIZE: Final = 8 << 40
FILES: Final = 2000


def main(folder: Path, *, full: bool) -> None:
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
    sys.stdout.write(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f}\n")


def write(top: Path, step: int) -> None:
    for number in range(0, FILES, step):
        (top / f"{number}").write_bytes(os.urandom(3000))


if __name__ == "__main__":
    main(Path(sys.argv[1]), full="full" in sys.argv[2:])
