# SPDX-License-Identifier: GPL-3.0-or-later
"""The update after `dpsr rollback`: the slot is that of an older generation, the volume went on."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from builder.change.used import file_extents
from core.model.blockset import BlockSet
from core.model.live import Instant
from tests.support.block import MIB
from tests.support.ext4_pair import grown
from tests.support.live_pair import disturbed
from tests.support.update_pair import Pair

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="loop devices need root")
OPTIONS = ["-O", "metadata_csum_seed,orphan_file,64bit", "-E", "lazy_itable_init=0"]
NOT_KNOWN = -1
"""Mounts as the record of another generation tells them: not at all."""


@dataclass
class Generation:
    """What an undo log brings back, and what the manifest of that time says."""

    slot: Path
    fixed: BlockSet
    last: Instant | None

    @classmethod
    def of(cls, pair: Pair) -> "Generation":
        kept = pair.slot.with_name("slot-kept")
        shutil.copyfile(pair.slot, kept)
        return cls(kept, pair.fixed, pair.last)

    def back(self, pair: Pair) -> None:
        """`dpsr rollback`: byte for byte, as tests/device/vault shows."""
        with self.slot.open("rb") as old, pair.slot.open("r+b") as slot:
            shutil.copyfileobj(old, slot, MIB)
            os.fsync(slot.fileno())
        pair.fixed, pair.last = self.fixed, self.last


@pytest.fixture
def folder() -> Iterator[Path]:
    home = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="dpsr-", dir=home if home.is_dir() else None) as name:
        yield Path(name)


@pytest.mark.parametrize("generations", [1, 3])
def test_everything_is_compared_and_right(folder: Path, generations: int) -> None:
    with Pair(folder, 96 * MIB, OPTIONS) as pair, closing(grown(pair, generations, 60)) as churn:
        pair.prepare()
        older = Generation.of(pair)
        for number in range(generations):
            churn.work(30)
            with disturbed(pair.top / "busy", number):
                pair.update()
        older.back(pair)
        churn.work(10)
        with disturbed(pair.top / "busy", 99):
            instant = pair.update(mounts=NOT_KNOWN)
        assert instant.detectors == {"root": "compare"}
        churn.work(10)
        assert pair.update().detectors == {"root": "ext4"}


def test_what_is_written_from_below_is_why(folder: Path) -> None:
    """A swap file that was in use for a while keeps its stamps; only the newer manifest names it.

    The inode tables of both sides are alike then: the detector, were it trusted, would miss it.
    """
    with Pair(folder, 96 * MIB, OPTIONS) as pair:
        (pair.top / "fstab").write_text("as it was\n" * 200)
        swap = pair.top / "swap"
        swap.write_bytes(os.urandom(4 * MIB))
        pair.prepare()
        older = Generation.of(pair)

        where = file_extents(str(swap))
        with pair.volume.open("r+b") as volume:
            for start, end in where:
                volume.seek(start)
                volume.write(os.urandom(end - start))
        pair.fixed = pair.fixed.union(where)  # in use at that freeze: the manifest says so
        assert pair.update().detectors == {"root": "ext4"}

        older.back(pair)
        with pytest.raises(AssertionError, match="swap"):
            pair.update()
        older.back(pair)
        assert pair.update(mounts=NOT_KNOWN).detectors == {"root": "compare"}
