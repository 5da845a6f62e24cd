# SPDX-License-Identifier: GPL-3.0-or-later
"""Is this ext4 image a right copy of that one? Shares no code with the detectors.

dumpe2fs tells which blocks are used, debugfs which of them were never written; the rest must be
equal byte by byte, but for superblocks and fix-ups. Each image is read once for all questions.
"""

import re
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final, Self

import numpy as np

from core.run import run
from tests.support import disk_image as disk
from tests.support.disk_image import Part

Range = tuple[int, int]
Content = np.ndarray[tuple[int], np.dtype[np.uint8]]
_MANY: Final = 8


def whole(image: Path) -> Part:
    """An image that is one file system, as a partition."""
    return Part(1, 0, image.stat().st_size, "")


class Rooms:
    """Memory for contents of images, used again: to get new memory costs more than to read."""

    _spare: ClassVar[list[Content]] = []

    def __init__(self) -> None:
        self._taken: list[Content] = []

    def read(self, image: Path) -> Content:
        """What the image holds now; good until `all_free`."""
        size = image.stat().st_size
        fits = [room for room in self._spare if len(room) >= size]
        room = min(fits, key=len) if fits else np.empty(size, np.uint8)
        self._spare[:] = [each for each in self._spare if each is not room]
        self._taken.append(room)
        with image.open("rb", buffering=0) as stream:
            done = 0
            while done < size:
                count = stream.readinto(room.data[done:size])
                assert count, f"{image} ends at byte {done}"
                done += count
        return room[:size]

    def all_free(self) -> None:
        """Nobody looks at what was read so far any more."""
        self._spare[:] = [*self._spare, *self._taken][-_MANY:]
        self._taken.clear()


@dataclass(slots=True)
class Picture:
    """An ext4 image as it is while it is looked at."""

    image: Path
    data: Content
    block: int
    """Bytes."""
    used: Any
    """For each block, whether it is in use."""
    superblocks: list[Range]
    """Blocks that hold one, as `(first, last + 1)`."""
    _said: str = field(repr=False)
    _unwritten: list[Range] | None = None

    @classmethod
    def of(cls, image: Path, rooms: Rooms | None = None) -> Self:
        """Look at the image, which stands still."""
        said = run("dumpe2fs", str(image), timeout=300)
        block, count, free = disk.free_in(said)
        used = np.ones(count, dtype=bool)
        for start, end in free:
            used[start:end] = False
        if block == 1024:
            used[0] = False  # before the file system: a boot sector, which belongs to nobody
        found = {int(n) for n in re.findall(r"(?:Primary|Backup) superblock at (\d+)", said)}
        assert (1 if block == 1024 else 0) in found
        heads = [(number, number + 1) for number in sorted(found)]
        return cls(image, (rooms or Rooms()).read(image), block, used, heads, said)

    @property
    def identity(self) -> list[Range]:
        """The superblocks, in bytes."""
        return [(first * self.block, last * self.block) for first, last in self.superblocks]

    def has(self, feature: str) -> bool:
        """Whether the file system has a feature, by dumpe2fs's name for it."""
        features = re.findall(r"^Filesystem features:\s+(.*)$", self._said, re.MULTILINE)
        return feature in features[0].split()

    @property
    def unwritten(self) -> list[Range]:
        """Blocks that belong to a file but were never written, as `(first, last + 1)`.

        To be asked for the first time while the image still is what it was.
        """
        if self._unwritten is None:
            self._unwritten = _unwritten(self.image, self._said)
        return self._unwritten


def unwritten(image: Path) -> list[Range]:
    """Blocks that belong to a file but were never written, as `(first, last + 1)`."""
    return _unwritten(image, run("dumpe2fs", str(image), timeout=300))


def _unwritten(image: Path, said: str) -> list[Range]:
    count = int(re.findall(r"^Inode count:\s+(\d+)$", said, re.MULTILINE)[0])
    used = np.ones(count + 1, dtype=bool)
    for listed in re.findall(r"^  Free inodes: (.*)$", said, re.MULTILINE):
        for item in filter(None, listed.split(", ")):
            first, _, last = item.partition("-")
            used[int(first) : int(last or first) + 1] = False
    numbers = [number for number in np.flatnonzero(used).tolist() if number > 10 or number == 2]
    asked = "".join(f"dump_extents -l <{number}>\n" for number in numbers)
    said = run("debugfs", "-f", "-", str(image), given=asked.encode(), timeout=300)
    pattern = r"^\s*\d+/\s*\d+\s+\d+/\s*\d+\s+\d+ -\s+\d+\s+(\d+) -\s+(\d+)\s+\d+\s+Uninit\s*$"
    return [(int(a), int(b) + 1) for a, b in re.findall(pattern, said, re.MULTILINE)]


def faults(
    volume: Picture, copy: Content, fixed: Iterable[Range] = (), unused: Iterable[Range] = ()
) -> list[str]:
    """What is wrong with the copy, a line for each; `fixed` and `unused` are byte ranges."""
    block, used = volume.block, volume.used.copy()
    for first, last in [*volume.superblocks, *_in_blocks(fixed, block)]:
        used[first:last] = False
    for start, end in unused:  # only whole blocks can be left out
        used[-(-start // block) : end // block] = False
    wrong = np.flatnonzero(used & unlike(volume.data, copy, block)[: len(used)])
    if len(wrong):
        for first, last in volume.unwritten:
            wrong = wrong[(wrong < first) | (wrong >= last)]
    if len(wrong) == 0:
        return []
    told = [_told(volume.image, number) for number in wrong[:_MANY].tolist()]
    return [f"{len(wrong)} of {used.sum()} used blocks of {block} bytes differ", *told]


def fsck(slot: Path, volume: Picture, scratch: Path) -> str:
    """What e2fsck finds in the copy with the volume's superblocks: empty when nothing is wrong.

    It gets them. A journal that was not empty, and files that were deleted while open, are no
    faults: the next mount deals with these, in `scratch`. Nor is what e2fsck finds in the volume,
    too. Needs root.
    """
    give_identity(slot, volume)
    if not disk.e2fsck(slot, whole(slot)):
        return ""
    run("cp", "--sparse=always", str(slot), str(scratch))
    said = _fsck_once_mounted(scratch)
    if not said:
        return ""
    volume.data.tofile(scratch)
    if said == _fsck_once_mounted(scratch):
        return ""  # without a journal, nobody takes care of deleted files that are still open
    return said


def give_identity(slot: Path, volume: Picture) -> None:
    """Put the volume's superblocks into the slot."""
    with slot.open("r+b") as stream:
        for start, end in volume.identity:
            stream.seek(start)
            stream.write(volume.data[start:end].tobytes())


def unlike(left: Content, right: Content, block: int) -> Any:
    """For each block, whether two contents differ in it; a shorter block at the end is left out."""
    count = len(left) // block
    found = np.zeros(count, dtype=bool)
    step = max(1, (1 << 20) // block)
    for first in range(0, count, step):
        here = slice(first * block, min(first + step, count) * block)
        a, b = (side[here].view(np.uint64) for side in (left, right))
        if not np.array_equal(a, b):
            rows = (a != b).reshape(-1, block // 8).any(axis=1)
            found[first : first + len(rows)] = rows
    return found


def _fsck_once_mounted(scratch: Path) -> str:
    """What e2fsck finds after a mount, without the image's name."""
    with tempfile.TemporaryDirectory(dir=scratch.parent) as top:
        run("mount", "-o", "loop", str(scratch), top)  # e2fsck -p leaves the orphan file unclean
        run("umount", top)
    return disk.e2fsck(scratch, whole(scratch)).replace(scratch.name, "")


def _in_blocks(ranges: Iterable[Range], block: int) -> list[Range]:
    return [(start // block, -(-end // block)) for start, end in ranges]


def _told(image: Path, number: int) -> str:
    said = disk.debugfs_about(image, whole(image), "icheck", [number])
    owner = re.findall(rf"^{number}\t(\d+)$", said, re.MULTILINE)
    if not owner:
        return f"  block {number}: metadata, or of a deleted file"
    named = disk.debugfs_about(image, whole(image), "ncheck", [int(owner[0])]).splitlines()
    return f"  block {number}: inode {owner[0]} {named[-2:]}"
