# SPDX-License-Identifier: GPL-3.0-or-later
"""The live copy of real file systems that are written to all the while, judged by the oracle."""

import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import pytest

from builder.change.used import file_extents
from builder.copying.direct import SlotWriter
from builder.still import live, tracker
from builder.still.live import LiveOptions, copy_live
from core import points
from core.errors import CannotCopyFileSystem, NeverQuiet, ReadFailed, TrackerLost, WriteFailed
from core.model.live import Instant, Source
from core.run import end, run, start
from core.screen import PlainScreen
from tests.support import block, disk_image, load
from tests.support.block import MIB

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="loop devices need root")

DISTURB: Final = Path(block.__file__).with_name("disturb.py")
OPTIONS: Final = LiveOptions(quiet_for=0.05, quiet_wait=0.5, max_freeze=60)
SIZE: Final = 256 * MIB


@contextmanager
def disturbed(folder: Path, seed: int, pause: float = 0.002) -> Iterator[None]:
    """Something writes to `folder` all the while, and must still be alive at the end."""
    child = start(sys.executable, str(DISTURB), str(folder), str(seed), str(pause))
    try:
        yield
        assert child.poll() is None, "the writer ended by itself"
    finally:
        end(child)


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
    assert [at for at in wrong if not any(s <= at < e for s, e in identity)] == []
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


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("block_size", [1024, 4096])
def test_a_volume_that_is_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block_size: int, seed: int
) -> None:
    with pair(tmp_path, "root", SIZE, "-b", str(block_size), "-i", "8192") as each:
        fill(each.folder, 60)
        keep = Keep([each])
        monkeypatch.setattr(points, "reach", keep.reach)
        with (
            disturbed(each.folder / "busy", seed),
            closing(SlotWriter(each.source.target)) as writer,
        ):
            slow = Slow(writer, 40e6)
            for limit in ("_LEFT", "_SMALL"):
                monkeypatch.setattr(live, limit, MIB)
            instant = copy_live([each.source], OPTIONS, PlainScreen(), {"root": slow})
    assert instant.passes > 1
    assert keep.reached == ["pass-done"] * instant.passes + ["frozen", "thawed"]
    assert judge(each, instant) * block_size > 50 * MIB
    assert instant.used["root"].total >= 50 * MIB
    assert instant.stall_seconds > 0
    assert instant.bytes_written >= instant.used["root"].total - 10 * MIB


@pytest.mark.parametrize(
    "features",
    ["^has_journal", "^metadata_csum,^64bit", "sparse_super2", "^sparse_super,^resize_inode",
     "^flex_bg,uninit_bg,^metadata_csum", "meta_bg,^resize_inode", "inline_data"],
)  # fmt: skip
def test_every_kind_of_ext4(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, features: str) -> None:
    with pair(tmp_path, "root", SIZE, "-O", features, "-b", "2048") as each:
        fill(each.folder, 20)
        monkeypatch.setattr(points, "reach", Keep([each]).reach)
        with disturbed(each.folder / "busy", 5):
            instant = copy_live([each.source], OPTIONS, PlainScreen())
    judge(each, instant)


def test_two_volumes_are_of_one_instant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "STOP", tmp_path / "stop")
    with ExitStack() as stack:
        pairs = [stack.enter_context(pair(tmp_path, name)) for name in ("root", "home")]
        keep = Keep(pairs)
        monkeypatch.setattr(points, "reach", keep.reach)
        folders = [each.folder / "load" for each in pairs]
        names = [str(folder) for folder in folders]
        code = f"from tests.support import load; load.run([load.Path(f) for f in {names}])"
        child = start(sys.executable, "-c", code)
        stack.callback(end, child)
        time.sleep(2)
        instant = copy_live([each.source for each in pairs], OPTIONS, PlainScreen())
        assert child.poll() is None
    copies = []
    with ExitStack() as stack:
        for each in pairs:
            judge(each, instant)
            device = stack.enter_context(block.loop(each.slot))
            folder = stack.enter_context(block.mounted(device, each.folder))
            copies.append(folder / "load")
        assert load.check(copies)["volumes"] == 2


def test_a_device_without_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    control = Path("/sys/class/zram-control")
    if not control.is_dir():
        pytest.skip("this kernel has no zram, the only such device that is easily had")
    number = (control / "hot_add").read_text().strip()
    device = f"/dev/zram{number}"
    try:
        Path(f"/sys/block/zram{number}/disksize").write_text(str(SIZE))
        run("mkfs.ext4", "-q", device)
        slot = block.image(tmp_path / "root.slot", SIZE)
        with (
            block.loop(slot) as target,
            block.mounted(device, tmp_path / "mnt") as folder,
        ):
            each = Pair(Path(device), slot, folder, block.source("root", device, folder, target))
            each = replace(each, primary=tmp_path / "root.primary")

            def reach(name: str) -> None:
                if name == "frozen":
                    run("dd", f"if={device}", f"of={each.kept}", "bs=1M", "iflag=direct")

            monkeypatch.setattr(points, "reach", reach)
            assert not tracker.request_based(each.source.tracked)
            fill(folder, 40)
            with disturbed(folder / "busy", 1):
                instant = copy_live([each.source], OPTIONS, PlainScreen())
        judge(each, instant)
    finally:
        (control / "hot_remove").write_text(number)


def test_going_on_writes_only_what_differs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pair(tmp_path) as each:
        fill(each.folder, 30)
        first = copy_live([each.source], OPTIONS, PlainScreen())
        (each.folder / "more").write_bytes(os.urandom(5 * MIB))
        monkeypatch.setattr(points, "reach", Keep([each]).reach)
        again = replace(OPTIONS, compare=True)
        second = copy_live([each.source], again, PlainScreen())
    judge(each, second)
    assert second.bytes_examined >= first.bytes_examined
    assert 5 * MIB <= second.bytes_written < 7 * MIB


def test_the_content_of_a_swap_file_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pair(tmp_path) as each:
        swap = each.folder / "swap"
        swap.write_bytes(b"secret" * (2 * MIB))
        swap.chmod(0o600)
        run("mkswap", str(swap))
        os.sync()
        extents = file_extents(str(swap))
        monkeypatch.setattr(points, "reach", Keep([each]).reach)
        run("swapon", str(swap))
        try:
            instant = copy_live([each.source], OPTIONS, PlainScreen())
        finally:
            run("swapoff", str(swap))
    assert extents.total == 12 * MIB
    assert not instant.used["root"].intersect(extents)
    _, wrong = block.differing(each.kept, each.slot)
    identity = [(at, at + len(data)) for at, data in instant.identity["root"]]
    left_out = [*extents, *identity]
    assert [at for at in wrong if not any(start <= at < end for start, end in left_out)] == []
    assert b"secret" not in each.slot.read_bytes()


def test_a_volume_that_is_mounted_read_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pair(tmp_path) as each:
        fill(each.folder, 12)
        run("mount", "-o", "remount,ro", str(each.folder))
        monkeypatch.setattr(points, "reach", Keep([each]).reach)
        judge(each, copy_live([each.source], OPTIONS, PlainScreen()))


def test_a_writer_that_is_faster_than_the_slot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pair(tmp_path, "root", 128 * MIB, "-N", "3000", "-J", "size=4") as each:
        with (
            disturbed(each.folder / "busy", 1, 0),
            closing(SlotWriter(each.source.target)) as writer,
        ):
            slow = Slow(writer, 4e6)
            for limit in ("_LEFT", "_SMALL"):
                monkeypatch.setattr(live, limit, MIB)
            with pytest.raises(NeverQuiet, match="writes faster"):
                copy_live([each.source], OPTIONS, PlainScreen(), {"root": slow})
        (each.folder / "not frozen").touch()


def test_lost_events_start_it_again_with_a_larger_buffer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tracker, "_SMALLEST", 8192)
    monkeypatch.setattr(tracker, "_EVERY", 1.0)
    monkeypatch.setattr(live, "_LARGER", 10_000)
    with pair(tmp_path) as each:
        keep = Keep([each])
        monkeypatch.setattr(points, "reach", keep.reach)
        fill(each.folder, 40)
        with (
            disturbed(each.folder / "busy", 1, 0),
            closing(SlotWriter(each.source.target)) as writer,
        ):
            slow = Slow(writer, 30e6)
            small = replace(OPTIONS, tracker_buffer=8192)
            instant = copy_live([each.source], small, PlainScreen(), {"root": slow})
    judge(each, instant)
    assert capsys.readouterr().err.count("Starting again with a larger buffer") == 1


def test_events_that_are_lost_twice_end_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracker, "_SMALLEST", 8192)
    monkeypatch.setattr(tracker, "_EVERY", 1.0)
    with pair(tmp_path) as each:
        with (
            disturbed(each.folder / "busy", 1, 0),
            closing(SlotWriter(each.source.target)) as writer,
        ):
            slow = Slow(writer, 10e6)
            small = replace(OPTIONS, tracker_buffer=1)
            with pytest.raises(TrackerLost, match="second time"):
                copy_live([each.source], small, PlainScreen(), {"root": slow})
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
        with pytest.raises(ReadFailed, match=r"/dev/loop\d+ cannot be read at byte \d+: Input/out"):
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
