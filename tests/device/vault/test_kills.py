# SPDX-License-Identifier: GPL-3.0-or-later
"""The process is killed at each named point; the next one ends what it began."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.vault_disk import VaultDisk, next_content

ROOT = Path(__file__).parents[3]

BEFORE_COMMIT = (
    "undo-created", "updating", "undo-synced", "destroyed", "overwritten", "sealed",
    "digests-written", "manifest-written",
)  # fmt: skip
GOING_BACK = ("rolling-back", "replay-destroyed", "replay-content", "replayed", "rolled-back")


def killed_at(point: str, folder: Path, job: str, points: Path) -> None:
    """Run the job in a child up to the point, and kill it there."""
    points.mkdir(exist_ok=True)
    (points / point).touch()
    reached = points / f"{point}.reached"
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.support.vault_child", str(folder), job],
        cwd=ROOT,
        env=os.environ | {"DPSR_TEST_POINTS": str(points)},
    )
    try:
        deadline = time.monotonic() + 30
        while not reached.exists():
            assert child.poll() is None, f"the child never came to {point}"
            assert time.monotonic() < deadline
            time.sleep(0.005)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    (points / point).unlink()
    reached.unlink()


@pytest.mark.parametrize("point", BEFORE_COMMIT)
def test_a_kill_before_the_commit_leads_back(point: str, tmp_path: Path) -> None:
    disk = VaultDisk.make(tmp_path / "disk")
    before, state, files = disk.content, disk.state, disk.files()
    killed_at(point, disk.folder, "update", tmp_path / "points")
    assert disk.state.state == ("clean" if point == "undo-created" else "updating")
    assert disk.recover() == disk.state == state
    assert disk.content == before
    if point != "undo-created":
        assert disk.files() == files
    disk.update(next_content(before, 3))  # the next update tidies up
    assert len(disk.files()) == 4  # two manifests, a log, digests


def test_a_kill_after_the_commit_changes_nothing(tmp_path: Path) -> None:
    disk = VaultDisk.make(tmp_path / "disk")
    after = next_content(disk.content, 2)
    killed_at("committed", disk.folder, "update", tmp_path / "points")
    assert disk.recover().gen == 2
    assert disk.content == after


@pytest.mark.parametrize("point", GOING_BACK)
def test_a_kill_on_the_way_back_is_gone_on_with(point: str, tmp_path: Path) -> None:
    disk = VaultDisk.make(tmp_path / "disk")
    first, before = disk.state, disk.content
    for seed in (2, 3):
        disk.update(next_content(disk.content, seed))
    killed_at(point, disk.folder, "roll-back", tmp_path / "points")
    if point not in {"rolling-back", "rolled-back"}:
        killed_at(point, disk.folder, "recover", tmp_path / "points")
    assert disk.recover() == first
    assert disk.content == before
