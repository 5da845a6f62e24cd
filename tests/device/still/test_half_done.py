# SPDX-License-Identifier: GPL-3.0-or-later
"""A write that is on its way for long is seen when it begins and again when it is done.

A loop device whose file lies on a frozen file system holds it there.
"""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.copying.direct import buffer
from builder.still.tracker import Tracked, Tracker
from core.model.blockset import BlockSet
from core.run import run
from tests.support import block
from tests.support.block import MIB
from tests.support.churn import frozen

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="loop devices need root")

PLACE = (4 * MIB, 4 * MIB + 8192)


def write(path: str) -> None:
    file = os.open(path, os.O_RDWR | os.O_DIRECT)
    try:
        os.pwritev(file, [buffer(PLACE[1] - PLACE[0])], PLACE[0])
    finally:
        os.close(file)


def until(true: Callable[[], bool]) -> bool:
    """Whether it comes true within a while."""
    deadline = time.monotonic() + 20
    while not (found := true()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return found


def test_a_write_under_way_is_seen_twice(tmp_path: Path) -> None:
    run("mkfs.ext4", "-q", str(block.image(tmp_path / "below", 64 * MIB)))
    with (
        block.loop(tmp_path / "below") as below,
        block.mounted(below, tmp_path / "mnt") as top,
        block.loop(block.image(top / "disk", 16 * MIB)) as device,
    ):
        number = os.stat(device).st_rdev
        volume = Tracked("root", (os.major(number), os.minor(number)), 0, 16 * MIB)
        place = BlockSet.of([PLACE])
        writer = threading.Thread(target=write, args=(device,))
        with Tracker([volume], 4 << 20) as tracker:
            with frozen(top):
                writer.start()
                began = until(lambda: bool(tracker.take()["root"].intersect(place)))
                held = writer.is_alive() and not tracker.take()["root"]
            writer.join()
            done = tracker.take()["root"]
        if began and not held:
            pytest.skip("this kernel's loop devices write to frozen file systems")
        assert began
        assert not place.minus(done)
