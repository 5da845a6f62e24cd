# SPDX-License-Identifier: GPL-3.0-or-later
"""The routine backup of a mounted file system: only what changed is written, nothing is missed."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.block import MIB
from tests.support.ext4_pair import grown
from tests.support.live_pair import disturbed
from tests.support.update_pair import Pair

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="loop devices need root")
NOW = ["-O", "metadata_csum_seed,orphan_file,64bit", "-E", "lazy_itable_init=0"]


@pytest.fixture
def folder() -> Iterator[Path]:
    home = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="dpsr-", dir=home if home.is_dir() else None) as name:
        yield Path(name)


def test_updates_while_files_change(folder: Path) -> None:
    with Pair(folder, 96 * MIB, NOW) as pair:
        churn = grown(pair, 1, 60)
        pair.prepare()
        for seed in range(3):
            churn.work(30)
            with disturbed(pair.top / "busy", seed):
                instant = pair.update()
            assert instant.detectors == {"root": "ext4"}
        churn.close()


def test_nothing_changed(folder: Path) -> None:
    with Pair(folder, 96 * MIB, NOW) as pair:
        for number in range(40):
            (pair.top / f"{number}").write_bytes(os.urandom(MIB))
        (pair.top / "fstab").write_text("here")
        pair.prepare()
        instant = pair.update()
        assert instant.detectors == {"root": "ext4"}
        assert pair.found is not None
        assert pair.found.used > 40 * MIB
        assert pair.found.differs < 300_000
        assert instant.bytes_written < 600_000
