# SPDX-License-Identifier: GPL-3.0-or-later
"""The live copy of real file systems that are written to all the while, judged by the oracle."""

import os
import sys
import time
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import pytest

from builder.change.used import file_extents
from builder.copying.direct import SlotWriter
from builder.still import live, tracker
from builder.still.live import copy_live
from core import points
from core.run import end, run, start
from core.screen import PlainScreen
from tests.support import block, load
from tests.support.block import MIB
from tests.support.live_pair import OPTIONS, SIZE, Keep, Pair, Slow, disturbed, fill, judge, pair

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="loop devices need root")


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
    assert keep.reached == ["settled", *["pass-done"] * instant.passes, "frozen", "thawed"]
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


def test_a_slot_with_large_sectors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pair(tmp_path, "root", SIZE, "-b", "1024") as each:
        fill(each.folder, 20)
        monkeypatch.setattr(points, "reach", Keep([each]).reach)
        with (
            disturbed(each.folder / "busy", 3),
            block.loop(each.slot, "--sector-size", "4096") as target,
        ):
            instant = copy_live([replace(each.source, target=target)], OPTIONS, PlainScreen())
    judge(each, instant)


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
