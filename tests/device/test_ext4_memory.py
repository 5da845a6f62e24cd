# SPDX-License-Identifier: GPL-3.0-or-later
"""Memory does not grow with the disk: 8 TiB, simulated, below 200 MiB."""

import os
import re
import sys
import tempfile
from pathlib import Path

import pytest

from core.run import run

MOST = 200


@pytest.mark.full
@pytest.mark.timeout(1800)
@pytest.mark.skipif(os.geteuid() != 0, reason="like the other tests of this folder")
def test_eight_tebibytes_of_used_inodes() -> None:
    said = run(sys.executable, "-m", "bench.ext4_tables", "--huge", timeout=1500)
    assert re.search(r"inode tables, each side +64\.0 GiB", said), said
    peak = re.search(r"memory: peak +([0-9.]+) MiB", said)
    assert peak, said
    assert float(peak[1]) < MOST, said


@pytest.mark.full
@pytest.mark.timeout(1800)
@pytest.mark.skipif(os.geteuid() != 0, reason="loop devices need root")
@pytest.mark.parametrize("how", [["by inode tables"], ["full"], ["in pieces"]])
def test_an_update_of_eight_tebibytes(how: list[str]) -> None:
    home = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="dpsr-", dir=home if home.is_dir() else None) as name:
        said = run(sys.executable, "-m", "tests.support.huge_update", name, *how, timeout=1500)
    assert int(said) < MOST
