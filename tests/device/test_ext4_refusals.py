# SPDX-License-Identifier: GPL-3.0-or-later
"""What the ext4 detector does not understand, or may not trust, it says in a line."""

import mmap
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from builder.change.choose import choose
from builder.change.detector import UseCompare
from builder.copying.direct import Reader
from core.model.blockset import EMPTY, BlockSet
from core.run import run
from tests.support.ext4_pair import Pair, detector

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts file systems")

MIB = 1 << 20


@pytest.fixture
def folder() -> Iterator[Path]:
    home = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="dpsr-", dir=home if home.is_dir() else None) as name:
        yield Path(name)


def find(pair: Pair) -> BlockSet:
    with detector(pair.volume, pair.slot) as ext4:
        return ext4.find(EMPTY, pair.fixed, lambda _: None)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["-O", "meta_bg,^resize_inode"], "meta_bg"),
        (["-O", "bigalloc"], "bigalloc"),
        (["-O", "inline_data"], "inline_data"),
        (["-O", "ea_inode"], "ea_inode"),
        (["-O", "mmp"], "mmp"),
        (["-O", "casefold"], "casefold"),
        (["-I", "128"], "128 bytes"),
        (["-O", "^extent,^64bit"], "block-mapped"),
    ],
)
def test_what_is_not_understood_is_said_in_a_line(
    folder: Path, options: list[str], reason: str
) -> None:
    image = made(folder, *options)
    with pytest.raises(UseCompare, match=reason) as refused, detector(image, image):
        pass
    assert "\n" not in str(refused.value)


def made(folder: Path, *options: str) -> Path:
    image = folder / "image"
    with image.open("wb") as stream:
        stream.truncate(32 * MIB)
    run("mke2fs", "-q", "-F", "-t", "ext4", *options, str(image))
    return image


def test_a_journal_elsewhere_is_refused(folder: Path) -> None:
    journal = folder / "journal"
    journal.write_bytes(bytes(8 * MIB))
    run("mke2fs", "-q", "-F", "-O", "journal_dev", "-b", "1024", str(journal))
    loop = run("losetup", "--show", "-f", str(journal)).strip()
    try:
        image = made(folder, "-b", "1024", "-J", f"device={loop}")
    finally:
        run("losetup", "-d", loop)
    with pytest.raises(UseCompare, match="another device"), detector(image, image):
        pass


def test_a_file_without_extents_is_refused(folder: Path) -> None:
    with Pair(folder, 32 * MIB, ["-O", "^metadata_csum,^64bit"]) as pair:
        path = pair.top / "old"
        path.write_bytes(b"block-mapped" * 1_000)
        os.symlink("short", pair.top / "link")
        os.mknod(pair.top / "device", 0o20600, os.makedev(1, 3))
        pair.first_copy()
        assert not pair.back_up_frozen()
        run("chattr", "-e", str(path))
        number = path.stat().st_ino
        pair.first_copy()
    with pytest.raises(UseCompare, match=f"inode {number} is block-mapped"):
        find(pair)


def test_what_was_made_as_ext3_is_refused(folder: Path) -> None:
    image = folder / "image"
    image.write_bytes(bytes(32 * MIB))
    run("mke2fs", "-q", "-F", "-t", "ext3", "-I", "256", str(image))
    run("tune2fs", "-O", "extents", str(image))
    with (
        pytest.raises(UseCompare, match=r"inode 8 .* has no extents"),
        detector(image, image) as it,
    ):
        it.find(EMPTY, EMPTY, lambda _: None)


def test_a_slot_that_is_no_copy_is_refused(folder: Path) -> None:
    pair = Pair(folder, 32 * MIB)
    run("mke2fs", "-q", "-F", "-t", "ext4", str(pair.slot))
    with pytest.raises(UseCompare, match="another file system"):
        find(pair)


def test_a_slot_that_is_half_written_is_refused(folder: Path) -> None:
    with Pair(folder, 32 * MIB) as pair:
        pair.first_copy()
    with pair.slot.open("r+b") as stream:
        stream.write(bytes(4096))
    with pytest.raises(UseCompare, match="no complete copy"):
        find(pair)


def change_nothing(image: Path) -> None:
    run("e2fsck", "-f", "-y", str(image), ok=(0, 1))


def grow(image: Path) -> None:
    with image.open("r+b") as stream:
        stream.truncate(48 * MIB)
    run("resize2fs", "-f", str(image))


def switch(image: Path) -> None:
    run("tune2fs", "-O", "verity", str(image))


@pytest.mark.parametrize(
    ("change", "reason"),
    [(change_nothing, "e2fsck"), (grow, "shape changed"), (switch, "features changed")],
)
def test_what_offline_tools_may_have_changed_is_refused(
    folder: Path, change: Callable[[Path], None], reason: str
) -> None:
    with Pair(folder, 32 * MIB) as pair:
        pair.first_copy()
    assert find(pair)
    time.sleep(1.1)  # the time of the last check counts in seconds
    change(pair.volume)
    with pytest.raises(UseCompare, match=reason):
        find(pair)


def test_the_detector_is_chosen_with_a_reason(folder: Path) -> None:
    with Pair(folder, 32 * MIB) as pair:
        pair.first_copy()
    with closing(Reader(str(pair.volume))) as ours, closing(Reader(str(pair.slot))) as theirs:
        chosen, reason = choose("ext4", ours, theirs, never_crashed=True)
        assert (chosen.name, reason) == ("ext4", "")
        chosen, reason = choose("ext4", ours, theirs, never_crashed=False)
        assert (chosen.name, "crashed" in reason) == ("compare", True)
        chosen, reason = choose("xfs", ours, theirs, never_crashed=True)
        assert (chosen.name, reason) == ("compare", "there is no quicker way for xfs")
        pair.slot.write_bytes(bytes(32 * MIB))
        chosen, reason = choose("ext4", ours, theirs, never_crashed=True)
        assert (chosen.name, reason) == ("compare", "the slot holds no complete copy of it")
        everything = chosen.find(BlockSet.of([(0, 50)]), BlockSet.of([(90, 99)]), lambda _: None)
        assert list(everything) == [(0, 50), (90, 99)]
        assert not chosen.reparse(everything, still=True)


def test_a_crash_keeps_data_and_loses_time_stamps(folder: Path) -> None:
    """Why a detector by time stamps is not chosen then: here it is seen to miss a change."""
    with Pair(folder, 32 * MIB, ["-E", "lazy_itable_init=0"]) as pair:
        path = pair.top / "database"
        path.write_bytes(b"old!" * 2048)
        pair.first_copy()
        before = path.stat()
        file = os.open(path, os.O_RDWR | os.O_DIRECT)
        with mmap.mmap(-1, 4096) as page:
            page[:] = b"new!" * 1024
            os.pwrite(file, page, 0)
        cut = pair.snapshot("cut")  # the power fails before the journal's next commit
        os.close(file)
        assert path.stat().st_mtime_ns > before.st_mtime_ns
    pair.volume.write_bytes(cut.read_bytes())
    with pair:  # the journal is replayed
        after = path.stat()
        assert path.read_bytes()[:4] == b"new!"
        assert (after.st_mtime_ns, after.st_ctime_ns) == (before.st_mtime_ns, before.st_ctime_ns)
        assert any(str(after.st_ino) in fault for fault in pair.back_up_frozen())
