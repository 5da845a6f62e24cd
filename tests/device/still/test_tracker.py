# SPDX-License-Identifier: GPL-3.0-or-later
"""The tracker sees every write to real devices, where it was, and nothing else."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.copying.direct import buffer
from builder.still import tracker as module
from builder.still.tracker import Tracked, Tracker, request_based
from core.errors import KernelFeatureMissing, TrackerLost
from core.model.blockset import BlockSet
from core.run import run
from tests.support import block
from tests.support.block import MIB

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="loop devices need root")

SIZE = 64 * MIB
BUFFER = 4 << 20


@pytest.fixture
def device(tmp_path: Path) -> Iterator[str]:
    with block.loop(block.image(tmp_path / "disk", SIZE)) as path:
        yield path


def number(path: str) -> tuple[int, int]:
    found = os.stat(path).st_rdev
    return os.major(found), os.minor(found)


def write(path: str, offset: int, length: int) -> None:
    file = os.open(path, os.O_RDWR | os.O_DIRECT)
    try:
        os.pwritev(file, [buffer(length)], offset)
    finally:
        os.close(file)


def tracked(path: str, name: str = "root", offset: int = 0, size: int = SIZE) -> Tracked:
    return Tracked(name, number(path), offset, size)


def test_writes_are_seen_where_they_were_and_reads_are_not(device: str) -> None:
    with Tracker([tracked(device)], BUFFER) as tracker:
        write(device, 0, 4096)
        write(device, 1024, 512)
        write(device, MIB, 3 * MIB)
        write(device, SIZE - 512, 512)
        with open(device, "rb", buffering=0) as stream:
            stream.seek(8 * MIB)
            assert stream.read(MIB)
        seen = tracker.take()
        assert list(seen["root"]) == [(0, 4096), (MIB, 4 * MIB), (SIZE - 4096, SIZE)]
        assert not tracker.take()["root"]
        assert not tracker.lost


def test_discards_and_zeroes_count_and_flushes_do_not(device: str) -> None:
    with Tracker([tracked(device)], BUFFER) as tracker:
        run("blkdiscard", "--force", "--offset", str(4 * MIB), "--length", str(MIB), device)
        assert tracker.take()["root"].intersect(BlockSet.of([(4 * MIB, 5 * MIB)])).total == MIB
        run("blkdiscard", "--force", "-z", "-o", str(9 * MIB), "-l", str(MIB), device)
        assert tracker.take()["root"].intersect(BlockSet.of([(9 * MIB, 10 * MIB)])).total == MIB
        tracker.take()
        file = os.open(device, os.O_RDWR)
        os.fsync(file)
        os.close(file)
        assert not tracker.take()["root"]


def test_each_volume_has_its_own_part_of_the_disk(device: str, tmp_path: Path) -> None:
    volumes = [
        tracked(device, "boot", MIB, 2 * MIB),
        tracked(device, "root", 3 * MIB, 8 * MIB),
    ]
    with (
        block.loop(block.image(tmp_path / "other", SIZE)) as other,
        Tracker([*volumes, tracked(other, "home")], BUFFER) as tracker,
    ):
        write(device, 0, 4096)
        write(device, 2 * MIB + 512, 512)
        write(device, 3 * MIB - 4096, 8192)
        write(device, 11 * MIB - 4096, MIB)
        write(other, 5 * MIB, 4096)
        assert {name: list(seen) for name, seen in tracker.take().items()} == {
            "boot": [(MIB, MIB + 4096), (2 * MIB - 4096, 2 * MIB)],
            "root": [(0, 4096), (8 * MIB - 4096, 8 * MIB)],
            "home": [(5 * MIB, 5 * MIB + 4096)],
        }


def test_writes_to_a_partition_appear_under_the_disk(device: str) -> None:
    run("addpart", device, "1", str(MIB // 512), str(16 * MIB // 512))
    partition = f"{device}p1"
    for _ in range(100):
        if Path(partition).exists():
            break
        time.sleep(0.05)
    try:
        volume = Tracked("root", number(device), MIB, 16 * MIB)
        with Tracker([volume], BUFFER) as tracker:
            write(partition, 4 * MIB, 8192)
            assert list(tracker.take()["root"]) == [(4 * MIB, 4 * MIB + 8192)]
    finally:
        run("delpart", device, "1")


def test_the_time_of_the_last_write_does_not_count_what_is_ignored(device: str) -> None:
    with Tracker([tracked(device)], BUFFER) as tracker:
        begun = tracker.last_write("root")
        tracker.ignore("root", BlockSet.of([(MIB, 2 * MIB)]))
        write(device, MIB + 8192, 4096)
        tracker.poll()
        assert tracker.last_write("root") == begun
        assert tracker.pending >= 4096
        before = time.monotonic()
        write(device, 2 * MIB - 4096, 8192)
        tracker.poll()
        assert tracker.last_write("root") >= before
        assert list(tracker.take()["root"]) == [
            (MIB + 8192, MIB + 12_288), (2 * MIB - 4096, 2 * MIB + 4096)
        ]  # fmt: skip
        assert tracker.pending == 0


def test_the_thread_reads_by_itself(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SMALLEST", 8192)
    room = buffer(4096)
    with Tracker([tracked(device)], 1) as tracker:  # holds some hundred events, sees thousands
        file = os.open(device, os.O_RDWR | os.O_DIRECT)
        for at in range(1500):
            os.pwritev(file, [room], at * 8192)
            time.sleep(0.0005)
        os.close(file)
        assert not tracker.lost
        assert len(tracker.take()["root"]) == 1500


def test_events_that_are_dropped_are_noticed(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SMALLEST", 8192)
    monkeypatch.setattr(module, "_EVERY", 60.0)
    with Tracker([tracked(device)], 1) as tracker:
        file = os.open(device, os.O_RDWR | os.O_DIRECT)
        room = buffer(4096)
        before = tracker.lost
        for at in range(3000):
            os.pwritev(file, [room], at * 8192)
        os.close(file)
        found = [before, tracker.lost]
        tracker.take()
        assert [*found, tracker.lost] == [False, True, True]  # for good


def test_many_ranges_are_merged_as_they_come(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MANY", 100)
    with Tracker([tracked(device)], BUFFER) as tracker:
        for at in range(0, 4 * MIB, 4096):
            write(device, at, 4096)
        tracker.poll()
        assert sum(len(ranges) for ranges in tracker._seen["root"].ranges) < 200
        assert list(tracker.take()["root"]) == [(0, 4 * MIB)]


def test_this_kernel_is_good_enough_and_one_without_events_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module.check_block_events()
    (tmp_path / "instances").mkdir()
    monkeypatch.setattr(module, "_TRACING", tmp_path)
    with pytest.raises(KernelFeatureMissing, match="Nothing was written"):
        module.check_block_events()
    with pytest.raises(TrackerLost, match="cannot be had"), Tracker([], BUFFER):
        pytest.fail("there are no events")


def test_nothing_is_left_behind(device: str) -> None:
    option = Path("/sys/kernel/tracing/options/record-cmd")
    if list(Path("/sys/kernel/tracing/instances").glob("dpsr-*")):
        pytest.skip("another one is at work: the option is everybody's")
    before = option.read_text()
    option.write_text("1")
    try:
        with Tracker([tracked(device)], BUFFER):
            assert option.read_text() == "0\n"
            home = Path(f"/sys/kernel/tracing/instances/dpsr-{os.getpid()}")
            assert home.is_dir()
        assert option.read_text() == "1\n"
        assert not home.exists()
    finally:
        option.write_text(before)


def test_it_can_begin_to_end_early(device: str) -> None:
    home = Path(f"/sys/kernel/tracing/instances/dpsr-{os.getpid()}")
    with Tracker([tracked(device)], BUFFER) as tracker:
        assert home.is_dir()
        tracker.end_soon()
        tracker.end_soon()
    assert not home.exists()


def test_what_goes_wrong_at_the_end_is_told(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing() -> None:
        tracker._undo.close = real  # type: ignore[method-assign]
        real()
        raise OSError("busy")

    tracker = Tracker([tracked(device)], BUFFER)
    with pytest.raises(OSError, match="busy"), tracker:  # noqa: PT012 - what is left raises
        real = tracker._undo.close
        monkeypatch.setattr(tracker._undo, "close", failing)
        tracker.end_soon()


def test_the_instance_of_a_process_that_was_killed_is_removed(device: str) -> None:
    instances = Path("/sys/kernel/tracing/instances")
    with Tracker([tracked(device)], BUFFER):
        pass
    old, ours = instances / "dpsr-4194999", instances / f"dpsr-{os.getpid()}"
    old.mkdir()
    ours.mkdir()  # process numbers come again
    with Tracker([tracked(device)], BUFFER) as tracker:
        assert not old.exists()
        write(device, 0, 4096)
        assert tracker.take()["root"].total == 4096


def test_a_loop_device_has_requests(device: str) -> None:
    assert request_based(number(device))
