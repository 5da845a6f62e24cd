# SPDX-License-Identifier: GPL-3.0-or-later
"""The routine backup of a mounted file system: only what changed is written, nothing is missed."""

import mmap
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from builder.change import below
from builder.change.used import file_extents
from builder.copying.direct import SlotWriter
from builder.still.live import copy_live
from core import points
from core.model.blockset import EMPTY
from core.model.live import Earlier, Instant, Source
from core.run import have, run
from core.screen import PlainScreen
from tests.support import block, live_pair
from tests.support.block import MIB
from tests.support.churn import fallocate
from tests.support.ext4_pair import grown
from tests.support.live_pair import Keep, disturbed, judge
from tests.support.update_pair import OPTIONS, Pair

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="loop devices need root")
NOW = ["-O", "metadata_csum_seed,orphan_file,64bit", "-E", "lazy_itable_init=0"]
KEEP_SIZE, PUNCH = 1, 2


@pytest.fixture
def folder() -> Iterator[Path]:
    home = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="dpsr-", dir=home if home.is_dir() else None) as name:
        yield Path(name)


def files(top: Path, count: int, size: int) -> None:
    for number in range(count):
        (top / f"{number}").write_bytes(os.urandom(size))


def update(source: Source) -> Instant:
    with closing(SlotWriter(source.target)) as writer:
        return copy_live([source], OPTIONS, PlainScreen(), begin=lambda _: {source.name: writer})


@pytest.mark.parametrize("seed", range(2))
def test_updates_while_files_change(folder: Path, seed: int) -> None:
    with Pair(folder, 96 * MIB, NOW) as pair, closing(grown(pair, seed, 60)) as churn:
        pair.prepare()
        for number in range(3):
            churn.work(30)
            with disturbed(pair.top / "busy", 10 * seed + number):
                instant = pair.update()
            assert instant.detectors == {"root": "ext4"}


def test_nothing_changed(folder: Path) -> None:
    with Pair(folder, 96 * MIB, NOW) as pair:
        files(pair.top, 40, MIB)
        pair.prepare()
        instant = pair.update()
        assert instant.detectors == {"root": "ext4"}
        assert pair.found is not None
        assert pair.found.used > 40 * MIB
        assert pair.found.differs < 300_000
        assert instant.bytes_written < 600_000


def test_only_what_differs_is_written(folder: Path) -> None:
    with Pair(folder, 96 * MIB, [*NOW, "-b", "4096"]) as pair:
        files(pair.top, 30, MIB)
        pair.prepare()
        for number in range(10):
            with (pair.top / f"{number}").open("r+b") as stream:
                os.pwrite(stream.fileno(), b"changed", 500_000)
        os.utime(pair.top / "20", ns=(0, 0))  # touched alone
        instant = pair.update()
        assert instant.detectors == {"root": "ext4"}
        assert pair.found is not None
        assert 10 * 4096 < pair.found.differs < 500_000
        assert instant.bytes_written < 800_000
        assert instant.bytes_examined > 11 * MIB


# --- what leaves odd traces, or none ------------------------------------------------------------


def reuse_inodes(top: Path) -> None:
    numbers = {(top / f"{n}").stat().st_ino for n in range(10)}
    for n in range(10):
        (top / f"{n}").unlink()
    for n in range(10):
        (top / f"new-{n}").write_bytes(b"n" * 300_000)
    assert numbers & {(top / f"new-{n}").stat().st_ino for n in range(10)}


def write_mapped(top: Path) -> None:
    for n in range(10):
        with (top / f"{n}").open("r+b") as stream, mmap.mmap(stream.fileno(), 0) as view:
            view[200_000] ^= 0xFF


def reserve(top: Path) -> None:
    for n in range(5):
        with (top / f"{n}").open("r+b") as stream:
            fallocate(stream.fileno(), 0, 0, 3 * MIB)
            os.pwrite(stream.fileno(), b"in the middle", 2 * MIB + 17)


def punch(top: Path) -> None:
    for n in range(10):
        with (top / f"{n}").open("r+b") as stream:
            fallocate(stream.fileno(), KEEP_SIZE | PUNCH, 4096 * n, 70_000)


def defragment(top: Path) -> None:
    if not have("e4defrag"):
        pytest.skip("no e4defrag")
    run("e4defrag", str(top / "woven-0"))


def rename_all(top: Path) -> None:
    (top / "away").mkdir()
    for n in range(20):
        (top / f"{n}").rename(top / "away" / ("n" * 200 + f"{n}"))
    for turn in range(300):
        (top / f"{20 + turn % 20}").rename(top / "between")
        (top / "between").rename(top / f"{20 + turn % 20}")


def drop_sharers(top: Path) -> None:
    for n in range(5):
        os.removexattr(top / f"{n}", "user.shared")
    (top / "5").unlink()


def write_in_the_past(top: Path) -> None:
    for n in range(10):
        before = (top / f"{n}").stat()
        with (top / f"{n}").open("r+b") as stream:
            os.pwrite(stream.fileno(), b"past", 100_000)
        os.utime(top / f"{n}", ns=(before.st_atime_ns, before.st_mtime_ns))


def touch_lazily(top: Path) -> None:
    run("mount", "-o", "remount,lazytime", str(top))
    for n in range(10):
        with (top / f"{n}").open("r+b") as stream:
            os.pwrite(stream.fileno(), b"lazy", 100_000)
        (top / f"{n + 10}").read_bytes()


CHANGES = (
    reuse_inodes, write_mapped, reserve, punch, defragment, rename_all, drop_sharers,
    write_in_the_past, touch_lazily,
)  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_each_kind_of_change_is_seen(folder: Path, change: Callable[[Path], None]) -> None:
    with Pair(folder, 96 * MIB, NOW) as pair:
        files(pair.top, 40, 400_000)
        for n in range(40):
            os.setxattr(pair.top / f"{n}", "user.shared", b"v" * 900)
        for _ in range(60):
            for n in range(2):
                with (pair.top / f"woven-{n}").open("ab") as stream:
                    stream.write(os.urandom(4096))
                    os.fsync(stream.fileno())
        pair.prepare()
        change(pair.top)
        assert pair.update().detectors == {"root": "ext4"}
        with disturbed(pair.top / "busy", 4):
            assert pair.update().detectors == {"root": "ext4"}


def test_written_just_before_the_search(folder: Path) -> None:
    """Data reaches its disk at once, its inode's new time with the journal's next commit."""
    with Pair(folder, 96 * MIB, NOW) as pair:
        files(pair.top, 40, 400_000)
        pair.prepare()

        def write() -> None:
            room = mmap.mmap(-1, 64 * 1024)
            room.write(b"just now" * 8192)
            for n in range(10):
                file = os.open(pair.top / f"{n}", os.O_RDWR | os.O_DIRECT)
                os.pwrite(file, room, 65536)
                os.close(file)

        assert pair.update(moments={"settled": write}).detectors == {"root": "ext4"}


# --- compared, and said why ---------------------------------------------------------------------


def test_a_file_system_that_grew(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Pair(folder, 64 * MIB, NOW) as pair:
        files(pair.top, 20, MIB)
        pair.prepare()
        pair.grow(96 * MIB)
        files(pair.top, 30, MIB)
        assert pair.update(mounts=pair.mounts).detectors == {"root": "compare"}
        assert "its size or shape changed since the last backup" in capsys.readouterr().err
        files(pair.top, 5, MIB)
        assert pair.update().detectors == {"root": "ext4"}


def test_a_file_system_that_was_checked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Pair(folder, 64 * MIB, NOW) as pair:
        files(pair.top, 20, MIB)
        pair.prepare()
        run("umount", str(pair.top))
        time.sleep(1.1)  # the time of the last check counts in seconds
        run("e2fsck", "-f", "-y", "-D", str(pair.volume), ok=(0, 1))
        pair.__enter__()
        assert pair.update(mounts=pair.mounts).detectors == {"root": "compare"}
        assert "checked by e2fsck" in capsys.readouterr().err
        assert pair.update().detectors == {"root": "ext4"}


def test_a_machine_that_was_started_again(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Pair(folder, 64 * MIB, NOW) as pair:
        files(pair.top, 20, MIB)
        pair.prepare()
        pair.again()
        assert pair.update().detectors == {"root": "compare"}
        assert "may have crashed" in capsys.readouterr().err
        assert pair.update().detectors == {"root": "ext4"}


def test_all_is_compared_when_asked_for_and_damage_heals(folder: Path) -> None:
    with Pair(folder, 64 * MIB, [*NOW, "-b", "4096"]) as pair:
        files(pair.top, 20, MIB)
        pair.prepare()
        places = [start for start, _ in file_extents(str(pair.top / "7"))]
        with pair.slot.open("r+b") as slot:
            for at in places:
                slot.seek(at)
                slot.write(b"rotten")
        instant = pair.update(full=True)
        assert instant.detectors == {"root": "compare"}
        assert instant.bytes_written < MIB


def test_nothing_known_is_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with live_pair.pair(tmp_path) as each:
        live_pair.fill(each.folder, 20)
        monkeypatch.setattr(points, "reach", Keep([each]).reach)
        instant = update(each.source)
    judge(each, instant)
    assert instant.detectors == {"root": "compare"}


# --- several, and other devices -----------------------------------------------------------------


def test_a_device_without_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    control = Path("/sys/class/zram-control")
    if not control.is_dir():
        pytest.skip("this kernel has no zram, the only such device that is easily had")
    number = (control / "hot_add").read_text().strip()
    device = f"/dev/zram{number}"
    try:
        Path(f"/sys/block/zram{number}/disksize").write_text(str(live_pair.SIZE))
        run("mkfs.ext4", "-q", device)
        slot = block.image(tmp_path / "root.slot", live_pair.SIZE)
        with block.loop(slot) as target, block.mounted(device, tmp_path / "mnt") as top:
            source = block.source("root", device, top, target)
            each = live_pair.Pair(tmp_path / "root.primary", slot, top, source)

            def reach(name: str) -> None:
                if name == "frozen":
                    run("dd", f"if={device}", f"of={each.kept}", "bs=1M", "iflag=direct")

            monkeypatch.setattr(points, "reach", reach)
            live_pair.fill(top, 40)
            instant = copy_live([source], OPTIONS, PlainScreen())
            for seed in range(2):
                judge(each, instant)  # and it gives the slot an identity
                earlier = Earlier(EMPTY, instant.mounts["root"])
                with disturbed(top / "busy", seed):
                    instant = update(replace(source, earlier=earlier))
                assert instant.detectors == {"root": "ext4"}
        judge(each, instant)
    finally:
        (control / "hot_remove").write_text(number)


def test_what_was_a_swap_file_is_compared(folder: Path) -> None:
    with Pair(folder, 96 * MIB, NOW) as pair:
        files(pair.top, 5, MIB)
        swap = pair.top / "swap"
        swap.write_bytes(b"secret" * (2 * MIB))
        swap.chmod(0o600)
        run("mkswap", str(swap))
        os.sync()
        run("swapon", str(swap))
        try:
            pair.prepare()
            assert pair.last is not None
            assert pair.last.swap["root"].total in range(12 * MIB, 12 * MIB + 4097)
            files(pair.top, 5, MIB)
            pair.update()
        finally:
            run("swapoff", str(swap))
        instant = pair.update()
        assert instant.detectors == {"root": "ext4"}
        assert not instant.swap["root"]


def test_a_swap_file_that_was_used_in_between(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(below, "_FSTAB", folder / "its fstab")
    monkeypatch.setattr(below, "_UNITS", folder / "units")
    (folder / "units").mkdir()
    with Pair(folder, 96 * MIB, [*NOW, "-b", "4096"]) as pair:
        files(pair.top, 5, MIB)
        names = ("by fstab", "by unit", "by nobody")
        for name in names:
            (pair.top / name).write_bytes(b"not used yet" * 100_000)
        (folder / "its fstab").write_text(f"{pair.top}/by\\040fstab none swap sw,noauto 0 0\n")
        (folder / "units" / "it.swap").write_text(f"[Swap]\nWhat={pair.top}/by unit\n")
        pair.prepare()
        extents = [file_extents(str(pair.top / name)) for name in names]
        assert below.swap_files(str(pair.top)) == extents[0].union(extents[1])
        assert below.swap_files("/proc") == EMPTY
        # The kernel writes past the file system, and no time stamp tells.
        with Path(pair.source.device).open("r+b", buffering=0) as device:
            for blocks in extents[:2]:
                for start, _ in blocks:
                    os.pwrite(device.fileno(), b"page" * 1024, start)
            os.fsync(device.fileno())
        assert pair.update().detectors == {"root": "ext4"}
        assert pair.written is not None
        assert not pair.written.intersect(extents[2])
