# SPDX-License-Identifier: GPL-3.0-or-later
"""What a detector finds only when it looks again is copied: during the passes, and in the freeze.

Rounds at random come upon it too rarely. Here a detector keeps a change to itself until then.
"""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.change.detector import Early, Readable, nobody
from builder.change.ext4.detector import Ext4
from builder.change.used import file_extents
from builder.still import volume as volume_module
from core.model.blockset import EMPTY, BlockSet
from core.screen import Advance
from tests.support.block import MIB
from tests.support.update_pair import Pair

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="loop devices need root")
NOW = ["-b", "4096", "-O", "metadata_csum_seed,orphan_file,64bit", "-E", "lazy_itable_init=0"]


@pytest.fixture
def folder() -> Iterator[Path]:
    home = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="dpsr-", dir=home if home.is_dir() else None) as name:
        yield Path(name)


class Late(Ext4):
    """Says nothing of `hidden` before it is asked again, while the volume is `when` or not."""

    hidden = EMPTY
    when = False
    told = False

    def find(
        self, used: BlockSet, always: BlockSet, advance: Advance, early: Early = nobody
    ) -> BlockSet:
        return super().find(used, always, advance, early).minus(self.hidden)

    def reparse(self, written: BlockSet, *, still: bool) -> BlockSet:
        more = super().reparse(written, still=still)
        if still is not self.when:
            return more
        type(self).told = True
        return more.union(self.hidden)


@pytest.mark.parametrize("still", [False, True])
def test_what_is_found_late_is_copied(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, still: bool
) -> None:
    def choose(
        _kind: str, volume: Readable, slot: Readable, *, never_crashed: bool
    ) -> tuple[Late, str]:
        assert never_crashed
        return Late(volume, slot), ""

    with Pair(folder, 32 * MIB, NOW) as pair:
        path = pair.top / "file"
        path.write_bytes(b"before" * 10_000)
        pair.prepare()
        with path.open("r+b") as stream:
            stream.write(b"after!" * 10_000)
            os.fsync(stream.fileno())
        for name, value in (("hidden", file_extents(str(path))), ("when", still), ("told", False)):
            monkeypatch.setattr(Late, name, value)
        monkeypatch.setattr(volume_module, "choose", choose)

        def write() -> None:  # else there is nothing to look at again before the freeze
            (pair.top / "other").write_bytes(b"other" * 1000)

        pair.update(moments={"settled": write})
        assert Late.told
        assert pair.written is not None
        assert not Late.hidden.minus(pair.written)
