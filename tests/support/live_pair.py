# SPDX-License-Identifier: GPL-3.0-or-later
"""Mounted primaries with their slots, writers, and the judge: for the tests of the live copy."""

import mmap
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from builder.copying.direct import SlotWriter
from builder.still.live import LiveOptions
from core.model.live import Instant, Source
from core.run import end, run, start
from tests.support import block, disk_image, oracle
from tests.support.block import MIB

OPTIONS: Final = LiveOptions(quiet_for=0.05, quiet_wait=0.5, max_freeze=60)
SIZE: Final = 256 * MIB
_DISTURB: Final = Path(__file__).with_name("disturb.py")


@contextmanager
def disturbed(
    folder: Path, seed: int, pause: float = 0.002, largest: int = 2_000_000
) -> Iterator[None]:
    """Something writes to `folder` all the while, and must still be alive at the end."""
    given = (str(folder), str(seed), str(pause), str(largest))
    child = start(sys.executable, "-IS", str(_DISTURB), *given)
    try:
        yield
        assert child.poll() is None, "the writer ended by itself"
    finally:
        end(child)


def flood(folder: Path) -> None:
    """A thousand writes: some times as many events as a tracker of 16 KiB a processor holds."""
    room = mmap.mmap(-1, 4096)
    file = os.open(folder / "flood", os.O_RDWR | os.O_CREAT | os.O_DIRECT, 0o600)
    try:
        for number in range(1000):
            os.pwrite(file, room, number % 10 * 65536)
    finally:
        os.close(file)


def fill(folder: Path, megabytes: int) -> None:
    """Files of many sizes, some of them removed again, so that free space is in pieces."""
    for number in range(megabytes):
        (folder / f"large-{number}").write_bytes(os.urandom(MIB - number * 4096))
        for small in range(10):
            (folder / f"small-{number}-{small}").write_bytes(os.urandom(3000 * small))
    for number in range(0, megabytes, 3):
        (folder / f"large-{number}").unlink()
        (folder / f"small-{number}-7").unlink()


@dataclass
class Pair:
    """A mounted primary and its slot, each an image file on a loop device."""

    primary: Path
    slot: Path
    folder: Path
    source: Source

    @property
    def kept(self) -> Path:
        """The primary as it was at the point `frozen`."""
        return self.primary.with_suffix(".kept")


@contextmanager
def pair(scratch: Path, name: str = "root", size: int = SIZE, *options: str) -> Iterator[Pair]:
    """An ext4 made with `options` and mounted, and an empty slot."""
    primary, slot = (block.image(scratch / f"{name}.{what}", size) for what in ("primary", "slot"))
    run("mkfs.ext4", "-q", *options, str(primary))
    with (
        block.loop(primary) as device,
        block.loop(slot) as target,
        block.mounted(device, scratch / f"{name}.mnt") as folder,
    ):
        yield Pair(primary, slot, folder, block.source(name, device, folder, target))


@dataclass
class Keep:
    """Holds the copy at the point `frozen` and keeps what the volumes are at that moment."""

    pairs: Sequence[Pair]
    reached: list[str] = field(default_factory=list)

    def reach(self, name: str) -> None:
        self.reached.append(name)
        if name == "frozen":
            for each in self.pairs:
                shutil.copyfile(each.primary, each.kept)


@dataclass
class Slow:
    """A slot on a disk that takes so many bytes a second."""

    under: SlotWriter
    rate: float

    def write(self, offset: int, view: memoryview) -> None:
        time.sleep(len(view) / self.rate)
        self.under.write(offset, view)

    def flush(self) -> None:
        self.under.flush()


def judge(each: Pair, instant: Instant) -> int:
    """The slot is the volume at that instant, but for its identity blocks, which are zeros.

    Gives the slot that identity. Returns how many bytes were compared.
    """
    content = instant.identity[each.source.name]
    identity = [(at, at + len(data)) for at, data in content]
    count, wrong = block.differing(each.kept, each.slot)
    excused = list(identity)
    if "ext4" in instant.detectors.values():  # what was reserved and never written is no content
        size, _ = block.used_blocks(each.kept)
        excused += [(first * size, last * size) for first, last in oracle.unwritten(each.kept)]
    assert [at for at in wrong if not any(s <= at < e for s, e in excused)] == []
    for at in block.superblocks(each.kept):
        assert any(start <= at < end for start, end in identity), f"{at} is no identity block"
    with each.slot.open("r+b") as copy, each.kept.open("rb") as frozen:
        for at, data in content:
            copy.seek(at)
            assert copy.read(len(data)) == bytes(len(data)), f"identity at {at} was written"
            frozen.seek(at)
            assert frozen.read(len(data)) == data, f"not the identity at {at}"
            copy.seek(at)
            copy.write(data)
    assert disk_image.e2fsck(each.slot, block.whole(each.slot)) == ""
    return count
