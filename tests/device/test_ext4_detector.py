# SPDX-License-Identifier: GPL-3.0-or-later
"""The ext4 detector on real file systems: each precaution, and each refusal, by itself."""

import os
import re
import struct
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.change.below import written_by_grub
from builder.change.detector import UseCompare
from builder.change.used import file_extents
from core.model.blockset import EMPTY, BlockSet
from core.run import have, run
from tests.support import disk_image as disk
from tests.support import oracle
from tests.support.churn import fallocate, frozen
from tests.support.ext4_pair import Pair, detector, differing
from tests.support.oracle import Picture

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts file systems")

MIB = 1 << 20
NOW = ["-O", "metadata_csum_seed,orphan_file,64bit", "-E", "lazy_itable_init=0"]


@pytest.fixture
def folder() -> Iterator[Path]:
    home = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="dpsr-", dir=home if home.is_dir() else None) as name:
        yield Path(name)


def find(pair: Pair) -> BlockSet:
    """Candidates of an unmounted pair: there is no used map, so all is free."""
    with detector(pair.volume, pair.slot) as ext4:
        return ext4.find(EMPTY, pair.fixed, lambda _: None)


def poke(image: Path, block: int, size: int) -> BlockSet:
    """Change one block of an image, as the kernel does that leaves no time stamp; return it."""
    with image.open("r+b") as stream:
        stream.seek(block * size + size // 2)
        old = stream.read(8)
        stream.seek(block * size + size // 2)
        stream.write(bytes(255 - byte for byte in old))
    return BlockSet.of([(block * size, (block + 1) * size)])


def blocks_of(image: Path, inode: int) -> list[int]:
    """Numbers of the blocks of a file, its tree's among them."""
    said = disk.debugfs(image, oracle.whole(image), f"blocks <{inode}>")
    return [int(number) for number in re.findall(r"\d+", said)]


def superblock(image: Path, field: str) -> int:
    said = run("dumpe2fs", "-h", str(image))
    found = re.search(rf"^{field}:\s+(\d+)", said, re.MULTILINE)
    assert found is not None, field
    return int(found[1])


# --- always compared --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Journal inode", "Orphan file inode", "User quota inode"])
def test_files_of_the_kernel_are_always_compared(folder: Path, name: str) -> None:
    pair = Pair(folder, 64 * MIB, ["-b", "4096", "-O", "metadata_csum,orphan_file,quota"])
    pair.slot.write_bytes(pair.volume.read_bytes())
    blocks = blocks_of(pair.volume, superblock(pair.volume, name))
    changed = EMPTY.union(*(poke(pair.volume, block, 4096) for block in blocks))
    assert differing(pair.volume, pair.slot).aligned(4096) == changed
    assert not changed.minus(find(pair))


@pytest.mark.parametrize("block", ["1024", "4096"])
@pytest.mark.parametrize(
    "features",
    [
        "sparse_super,resize_inode",
        "^sparse_super,^resize_inode",
        "sparse_super2,^resize_inode",
    ],
)
def test_descriptors_and_bitmaps_are_always_compared(
    folder: Path, block: str, features: str
) -> None:
    pair = Pair(folder, 96 * MIB, ["-b", block, "-g", "4096", "-O", features])
    pair.slot.write_bytes(pair.volume.read_bytes())
    said = run("dumpe2fs", str(pair.volume))
    found = []
    for pattern in (
        r"Group descriptors at (\d+)-(\d+)", r"Group descriptors at (\d+)$",
        r"Block bitmap at (\d+)", r"Inode bitmap at (\d+)",
    ):  # fmt: skip
        for hit in re.finditer(pattern, said, re.MULTILINE):
            numbers = [int(number) for number in hit.groups()]
            found += [numbers[0], numbers[-1]]
    assert len(found) > 20
    with detector(pair.volume, pair.slot) as ext4:
        first = superblock(pair.volume, "First block")
        for number in {number for number in found if number > first + 1}:
            with pair.slot.open("r+b") as stream:  # bytes 8.. of a descriptor are not its places
                stream.seek((number + 1) * int(block) - 6)
                stream.write(b"other")
        candidates = ext4.find(EMPTY, EMPTY, lambda _: None)
    assert len(differing(pair.volume, pair.slot)) > 3
    assert not differing(pair.volume, pair.slot).minus(candidates)


def test_the_fixups_are_always_compared(folder: Path) -> None:
    with Pair(folder, 32 * MIB, NOW) as pair:
        (pair.top / "fstab").write_text("UUID=of-the-volume / ext4\n" * 200)
        pair.first_copy()
        assert pair.fixed
        assert not pair.back_up_frozen()


# --- what need not be compared, or not at the end ---------------------------------------------


def test_what_is_sure_to_differ_does(folder: Path) -> None:
    """Blocks of inode table that were seen to differ are not compared once more."""
    with Pair(folder, 64 * MIB, ["-b", "4096", *NOW]) as pair:
        for number in range(200):
            (pair.top / f"file-{number}").write_bytes(os.urandom(5000))
        pair.first_copy()
        for number in range(0, 200, 50):
            (pair.top / f"file-{number}").chmod(0o600)
        with frozen(pair.top), detector(pair.volume, pair.slot) as ext4:
            found = ext4.find(pair.used(), pair.fixed, lambda _: None)
            unlike = differing(pair.volume, pair.slot)
            tables = ext4._differ.result()
        assert len(tables) >= 4
        assert not tables.minus(ext4.sure)
        assert not ext4.sure.minus(found)
        assert not tables.minus(unlike.aligned(4096))


def test_the_journal_is_told_early(folder: Path) -> None:
    pair = Pair(folder, 64 * MIB, ["-b", "4096", *NOW])
    pair.slot.write_bytes(pair.volume.read_bytes())
    early: list[BlockSet] = []
    with detector(pair.volume, pair.slot) as ext4:
        found = ext4.find(EMPTY, pair.fixed, lambda _: None, early.append)
    journal = superblock(pair.volume, "Journal inode")
    blocks = BlockSet.of((n * 4096, n * 4096 + 4096) for n in blocks_of(pair.volume, journal))
    assert blocks
    assert not blocks.minus(EMPTY.union(*early))
    assert not EMPTY.union(*early).minus(found)


# --- what leaves no trace in the inode --------------------------------------------------------


def test_what_grub_writes_past_the_file_system_is_compared(folder: Path) -> None:
    with Pair(folder, 32 * MIB, NOW) as pair:
        home = pair.top / "boot/grub"
        home.mkdir(parents=True)
        (home / "grubenv").write_bytes(b"# GRUB Environment Block\n".ljust(1024, b"#"))
        (home / "grub.cfg").write_bytes(b"menu" * 256)
        (home / "away").symlink_to("grubenv")
        pair.first_copy()
        places = written_by_grub(str(pair.top))
        assert places == file_extents(str(home / "grubenv"))
        with frozen(pair.top), detector(pair.volume, pair.slot) as ext4:
            ((start, end),) = places
            changed = poke(pair.volume, start // (end - start), end - start)
            assert changed.minus(ext4.find(pair.used(), pair.fixed, lambda _: None))
            assert not changed.minus(ext4.find(pair.used(), places, lambda _: None))


def test_sharers_of_an_xattr_block_are_counted(folder: Path) -> None:
    with Pair(folder, 32 * MIB, NOW) as pair:
        names = [pair.top / name for name in ("one", "two", "three")]
        for name in names:
            name.touch()
            os.setxattr(name, "user.long", b"v" * 900)
        pair.first_copy()
        names[0].unlink()
        assert not pair.back_up_frozen()
        os.removexattr(names[1], "user.long")
        assert not pair.back_up_frozen()


@pytest.mark.skipif(not have("e4defrag"), reason="no e4defrag")
def test_tree_blocks_change_while_the_inode_does_not(folder: Path) -> None:
    with Pair(folder, 64 * MIB, [*NOW, "-b", "4096"]) as pair:
        path = pair.top / "fragmented"
        with path.open("wb") as stream, (pair.top / "other").open("wb") as between:
            for n in range(0, 400, 10):  # forty pieces with holes between, each of four extents
                for at in range(n, n + 4):
                    for file in (stream, between):
                        os.pwrite(file.fileno(), bytes([n % 251]) * 4096, at * 4096)
                        os.fsync(file.fileno())
        pair.first_copy()
        before, places = path.stat(), blocks_of_mounted(path)
        root = tree_blocks(pair.volume, path.stat().st_ino)
        run("e4defrag", str(path))
        after = path.stat()
        assert (before.st_mtime_ns, before.st_ctime_ns) == (after.st_mtime_ns, after.st_ctime_ns)
        assert places != blocks_of_mounted(path)
        assert not pair.back_up_frozen()
        assert root == tree_blocks(pair.volume, path.stat().st_ino) != []


def blocks_of_mounted(path: Path) -> list[str]:
    said = run("filefrag", "-v", str(path))
    return re.findall(r"^\s+\d+:.*$", said, re.MULTILINE)


def test_a_table_that_is_zeroed_in_the_background_is_compared(folder: Path) -> None:
    options = ["-b", "4096", "-g", "4096", "-N", "8000", "-E", "nodiscard,lazy_itable_init=1"]
    pair = Pair(folder, 64 * MIB, options, "loop,noinit_itable")
    # An old disk: what mke2fs left alone is rubbish, and there is much of it in inode tables.
    said = run("dumpe2fs", str(pair.volume))
    for first, last in re.findall(r"Inode table at (\d+)-(\d+)", said)[1:]:
        with pair.volume.open("r+b") as stream:
            stream.seek(int(first) * 4096)
            stream.write(os.urandom((int(last) + 1 - int(first)) * 4096))
    with pair:
        pair.first_copy()
        assert not pair.back_up_frozen()
        run("mount", "-o", "remount,init_itable=0", str(pair.top))
        deadline = time.monotonic() + 30
        while "ITABLE_ZEROED" not in run("dumpe2fs", str(pair.volume)).split("Group 3:")[1]:
            assert time.monotonic() < deadline, "the kernel did not zero the inode tables"
            time.sleep(0.5)
            os.sync()
        assert not pair.back_up_frozen()
        assert pair.copied > 100_000


# --- what is not copied without need ----------------------------------------------------------


def test_reading_makes_no_work(folder: Path) -> None:
    with Pair(folder, 64 * MIB, NOW, "loop,strictatime") as pair:
        for n in range(40):
            (pair.top / f"{n}").write_bytes(b"content" * 50_000)
        pair.first_copy()
        assert not pair.back_up_frozen()
        least = pair.candidates
        for path in pair.top.iterdir():
            if path.is_file():
                path.read_bytes()
        assert not pair.back_up_frozen()
        assert pair.copied
        assert pair.candidates < least + MIB  # not the 14 MB of the files


def test_what_was_reserved_and_never_written_is_no_work(folder: Path) -> None:
    with Pair(folder, 64 * MIB, NOW) as pair:
        pair.first_copy()
        with (pair.top / "reserved").open("wb") as stream:
            fallocate(stream.fileno(), 0, 0, 30 * MIB)
            os.pwrite(stream.fileno(), b"a little", 10 * MIB)
        assert not pair.back_up_frozen()
        assert pair.copied < MIB


def test_a_file_that_was_touched_is_all_that_is_looked_at(folder: Path) -> None:
    with Pair(folder, 64 * MIB, NOW) as pair:
        for n in range(40):
            (pair.top / f"{n}").write_bytes(b"content" * 50_000)
        pair.first_copy()
        assert not pair.back_up_frozen()
        least = pair.candidates
        os.utime(pair.top / "7")
        assert not pair.back_up_frozen()
        assert pair.candidates - least in range(300_000, 500_000)
        assert pair.copied < 300_000


@pytest.mark.parametrize("stale", ["rubbish", "an old leaf of no extents"])
def test_the_second_pass_parses_again(folder: Path, stale: str) -> None:
    """Extents that move into a block of their own while we look are found by `reparse`."""
    with Pair(folder, 64 * MIB, [*NOW, "-b", "4096"]) as pair:
        path = pair.top / "file"
        with path.open("wb") as stream:
            for n in range(4):
                os.pwrite(stream.fileno(), b"old" * 2000, n * 100_000)
        pair.first_copy()
        with path.open("r+b") as stream:
            for n in range(4):
                os.pwrite(stream.fileno(), b"new" * 2000, n * 100_000)
        with frozen(pair.top):
            before = pair.snapshot("before")
            used = pair.used()
        with path.open("r+b") as stream:
            for n in range(5, 9):
                os.pwrite(stream.fileno(), b"more" * 2000, n * 100_000)
        with frozen(pair.top):
            after = pair.snapshot("after")
            last_used = pair.used()
        written = differing(before, after).aligned(4096)
        leaf = tree_blocks(after, path.stat().st_ino)
        assert leaf
        view = pair.volume.with_name("view")
        view.write_bytes(after.read_bytes())
        with view.open("r+b") as stream:  # the inode is new, its leaf is not there yet
            stream.seek(leaf[0] * 4096)
            old = struct.pack("<4HI", 0xF30A, 0, 340, 0, 0)
            stream.write((b"" if stale == "rubbish" else old).ljust(4096, b"\0"))
        with detector(view, pair.slot) as ext4:
            found = ext4.find(used, pair.fixed, lambda _: None)
            if stale == "rubbish":
                with pytest.raises(UseCompare, match="make no sense"):
                    ext4.reparse(written, still=True)
            view.write_bytes(after.read_bytes())
            more = ext4.reparse(written, still=True)
            assert more
            assert not ext4.reparse(written, still=True)
        for blocks in (found, more, written, last_used.minus(used)):
            pair.transfer(after, blocks.intersect(last_used))
        assert not pair.judge(Picture.of(after))


def tree_blocks(image: Path, inode: int) -> list[int]:
    said = disk.debugfs(image, oracle.whole(image), f"dump_extents <{inode}>")
    pattern = r"^\s*0/\s*1\s.*?-\s+\d+\s+(\d+)\s+\d+\s*$"
    return [int(number) for number in re.findall(pattern, said, re.MULTILINE)]
