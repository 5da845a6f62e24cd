# SPDX-License-Identifier: GPL-3.0-or-later
"""The live copy of real file systems that are written to all the while, judged by the oracle."""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from builder.still import live
from builder.still.live import LiveOptions, copy_live
from core import points
from core.model.live import Instant
from core.run import end, run, start
from core.screen import PlainScreen
from tests.support import block, disk_image
from tests.support.block import MIB

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="loop devices need root")

CHURN = Path(block.__file__).with_name("churn.py")
OPTIONS = LiveOptions(quiet_for=0.05, quiet_wait=0.5, max_freeze=60)


@contextmanager
def churning(folder: Path, seed: int, pause: float = 0.002) -> Iterator[None]:
    """Something writes to `folder` all the while, and must still be alive at the end."""
    child = start(sys.executable, str(CHURN), str(folder), str(seed), str(pause))
    try:
        yield
        assert child.poll() is None, "the writer ended by itself"
    finally:
        end(child)


def fill(folder: Path, megabytes: int, seed: int) -> None:
    """Files of many sizes, some of them removed again, so that free space is in pieces."""
    for number in range(megabytes):
        (folder / f"large-{number}").write_bytes(os.urandom(MIB - seed * 4096))
        for small in range(10):
            (folder / f"small-{number}-{small}").write_bytes(os.urandom(3000 * small))
    for number in range(0, megabytes, 3):
        (folder / f"large-{number}").unlink()
        (folder / f"small-{number}-7").unlink()


class Frozen:
    """Holds the copy at the point `frozen` and keeps what the volumes are at that moment."""

    def __init__(self, images: dict[Path, Path]) -> None:
        self.images = images
        self.times = 0

    def reach(self, name: str) -> None:
        if name == "frozen":
            self.times += 1
            for image, kept in self.images.items():
                shutil.copyfile(image, kept)


def judge(kept: Path, slot: Path, instant: Instant, name: str = "root") -> None:
    """The slot is the volume at that instant, but for its identity blocks, which are zeros."""
    count, wrong = block.differing(kept, slot)
    identity = [
        (at, at + len(content)) for at, content in instant.identity[name]
    ]
    assert [at for at in wrong if not any(s <= at < e for s, e in identity)] == []
    assert count * 1024 > 10 * MIB, "hardly anything was compared"
    for at in block.superblocks(kept):
        assert any(start <= at < end for start, end in identity), f"{at} is no identity block"
    with slot.open("r+b") as copy, kept.open("rb") as frozen:
        for at, content in instant.identity[name]:
            copy.seek(at)
            assert copy.read(len(content)) == bytes(len(content)), f"identity at {at} was written"
            frozen.seek(at)
            assert frozen.read(len(content)) == content, f"wrong identity at {at}"
            copy.seek(at)
            copy.write(content)
    assert disk_image.e2fsck(slot, block.whole(slot)) == ""


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("block_size", [1024, 4096])
def test_a_volume_that_is_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block_size: int, seed: int
) -> None:
    primary, slot = (block.image(tmp_path / name, 256 * MIB) for name in ("primary", "slot"))
    run("mkfs.ext4", "-q", "-b", str(block_size), "-i", "8192", str(primary))
    with ExitStack() as stack:
        device = stack.enter_context(block.loop(primary))
        target = stack.enter_context(block.loop(slot))
        folder = stack.enter_context(block.mounted(device, tmp_path / "mnt"))
        fill(folder, 60, seed)
        frozen = Frozen({primary: tmp_path / "kept"})
        monkeypatch.setattr(points, "reach", frozen.reach)
        stack.enter_context(churning(folder / "churn", seed))
        source = block.source("root", device, folder, target)
        instant = copy_live([source], OPTIONS, PlainScreen())
    assert frozen.times == 1
    assert instant.passes >= 1
    judge(tmp_path / "kept", slot, instant)
