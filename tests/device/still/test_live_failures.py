# SPDX-License-Identifier: GPL-3.0-or-later
"""When the live copy cannot be made it says so, and leaves nothing frozen."""

import os
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from builder.copying.direct import SlotWriter
from builder.still import live, tracker
from builder.still.live import LiveOptions, copy_live
from core import points
from core.errors import CannotCopyFileSystem, NeverQuiet, ReadFailed, TrackerLost, WriteFailed
from core.run import PIPE, end, run, start
from core.screen import PlainScreen
from tests.support import block
from tests.support.block import MIB
from tests.support.live_pair import OPTIONS, SIZE, Keep, Slow, disturbed, fill, flood, judge, pair

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="loop devices need root")


def test_a_writer_that_is_faster_than_the_slot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pair(tmp_path, "root", 128 * MIB, "-N", "3000", "-J", "size=4") as each:
        with (
            disturbed(each.folder / "busy", 1, 0),
            closing(SlotWriter(each.source.target)) as writer,
        ):
            slow = Slow(writer, 2e6)
            for limit in ("_LEFT", "_SMALL"):
                monkeypatch.setattr(live, limit, MIB)
            with pytest.raises(NeverQuiet, match="writes faster"):
                copy_live([each.source], OPTIONS, PlainScreen(), {"root": slow})
        (each.folder / "not frozen").touch()


@pytest.fixture
def small_tracker(monkeypatch: pytest.MonkeyPatch) -> LiveOptions:
    """A tracker that nobody reads in between, with room for 16 KiB of events on each processor."""
    monkeypatch.setattr(tracker, "_SMALLEST", 16384)
    monkeypatch.setattr(tracker, "_EVERY", 600.0)
    return replace(OPTIONS, tracker_buffer=1)


def test_lost_events_start_it_again_with_a_larger_buffer(
    tmp_path: Path,
    small_tracker: LiveOptions,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(live, "_LARGER", 64 * MIB)
    with pair(tmp_path) as each:
        keep = Keep([each])

        def reach(name: str) -> None:
            if name == "settled":
                flood(each.folder)
            keep.reach(name)

        monkeypatch.setattr(points, "reach", reach)
        fill(each.folder, 40)
        os.sync()
        with closing(SlotWriter(each.source.target)) as writer:
            instant = copy_live([each.source], small_tracker, PlainScreen(), {"root": writer})
    judge(each, instant)
    assert capsys.readouterr().err.count("Starting again with a larger buffer") == 1


def test_events_that_are_lost_twice_end_it(
    tmp_path: Path, small_tracker: LiveOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pair(tmp_path) as each:

        def reach(name: str) -> None:
            if name == "settled":
                flood(each.folder)

        monkeypatch.setattr(points, "reach", reach)
        with (
            closing(SlotWriter(each.source.target)) as writer,
            pytest.raises(TrackerLost, match="second time"),
        ):
            copy_live([each.source], small_tracker, PlainScreen(), {"root": writer})
        (each.folder / "not frozen").touch()


def test_events_of_another_device_are_noticed_at_once(tmp_path: Path) -> None:
    with pair(tmp_path) as each, block.loop(each.slot) as other:
        number = os.stat(other).st_rdev
        wrong = replace(each.source, tracked=(os.major(number), os.minor(number)))
        with pytest.raises(TrackerLost, match="did not show a write"):
            copy_live([wrong], OPTIONS, PlainScreen())
        (each.folder / "not frozen").touch()


def test_a_primary_that_cannot_be_read(tmp_path: Path) -> None:
    with pair(tmp_path, "root", SIZE, "-b", "4096") as each:
        fill(each.folder, 100)
        os.sync()
        os.truncate(each.primary, 60 * MIB)
        said = r"/dev/loop\d+ cannot be read at byte \d+: .*Input/out"
        with pytest.raises(ReadFailed, match=said):
            copy_live([each.source], OPTIONS, PlainScreen())
        os.truncate(each.primary, SIZE)


def test_a_slot_that_cannot_be_written(tmp_path: Path) -> None:
    with pair(tmp_path) as each:
        fill(each.folder, 12)
        with block.loop(each.slot, "--read-only") as target:
            broken = replace(each.source, target=target)
            with pytest.raises(WriteFailed, match=r"/dev/loop\d+ cannot be"):
                copy_live([broken], OPTIONS, PlainScreen())
        (each.folder / "not frozen").touch()


def test_another_file_system_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    primary, slot = (block.image(tmp_path / what, 400 * MIB) for what in ("primary", "slot"))
    run("mkfs.xfs", "-q", str(primary))
    with (
        block.loop(primary) as device,
        block.loop(slot) as target,
        block.mounted(device, tmp_path / "mnt") as folder,
        pytest.raises(CannotCopyFileSystem, match="no ext4 file system"),
    ):
        copy_live([block.source("root", device, folder, target)], OPTIONS, PlainScreen())
    assert not slot.read_bytes().strip(b"\0")


@pytest.mark.parametrize("point", ["pass-done", "frozen", "thawed"])
def test_a_signal_undoes_everything(tmp_path: Path, point: str) -> None:
    points_folder = tmp_path / "points"
    points_folder.mkdir()
    hold = points_folder / point
    hold.touch()
    with pair(tmp_path) as each:
        fill(each.folder, 12)
        code = (
            "from core.signals import unwinding\n"
            "from core.screen import PlainScreen\n"
            "from core.model.live import Source\n"
            "from builder.still.live import LiveOptions, copy_live\n"
            "options = LiveOptions(quiet_for=0, max_freeze=60)\n"
            "with unwinding():\n"
            f"    copy_live([{each.source!r}], options, PlainScreen())\n"
        )
        child = start(
            "env", f"DPSR_TEST_POINTS={points_folder}", sys.executable, "-c", code, stderr=PIPE
        )
        try:
            while not hold.with_name(f"{point}.reached").exists():
                assert child.poll() is None
                time.sleep(0.01)
            child.terminate()
            if point == "frozen":
                time.sleep(0.2)
                assert child.poll() is None, "it waits for the thaw"
            else:
                child.wait(60)
            hold.unlink()
            _, said = child.communicate(timeout=20)
        finally:
            end(child)
        assert b"Ended: SIGTERM" in said
        (each.folder / "not frozen").touch()
    assert not list(Path("/sys/kernel/tracing/instances").glob(f"dpsr-{child.pid}"))
