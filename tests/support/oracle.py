# SPDX-License-Identifier: GPL-3.0-or-later
"""Is this ext4 image a right copy of that one? Shares no code with the detectors.

dumpe2fs tells which blocks are used, debugfs which of them were never written; the rest must be
equal byte by byte, but for superblocks and fix-ups.
"""

import re
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import numpy as np

from core.run import run
from tests.support import disk_image as disk
from tests.support.disk_image import Part

Range = tuple[int, int]
_MANY: Final = 8


def whole(image: Path) -> Part:
    """An image that is one file system, as a partition."""
    return Part(1, 0, image.stat().st_size, "")


def faults(
    volume: Path, slot: Path, fixed: Iterable[Range] = (), unused: Iterable[Range] = ()
) -> list[str]:
    """What is wrong with the copy, a line for each; `fixed` and `unused` are byte ranges."""
    block, used = used_blocks(volume)
    for first, last in [*superblocks(volume, block), *_in_blocks(fixed, block)]:
        used[first:last] = False
    for start, end in unused:  # only whole blocks can be left out
        used[-(-start // block) : end // block] = False
    wrong = np.flatnonzero(used & _differing(volume, slot, block, len(used)))
    if len(wrong):
        for first, last in unwritten(volume):
            wrong = wrong[(wrong < first) | (wrong >= last)]
    if len(wrong) == 0:
        return []
    told = [_told(volume, number) for number in wrong[:_MANY].tolist()]
    return [f"{len(wrong)} of {used.sum()} used blocks of {block} bytes differ", *told]


def used_blocks(image: Path) -> tuple[int, Any]:
    """Block size, and for each block whether it is in use."""
    block, count, free = disk.free_blocks(image, whole(image))
    used = np.ones(count, dtype=bool)
    for start, end in free:
        used[start:end] = False
    if block == 1024:
        used[0] = False  # before the file system: a boot sector, which belongs to nobody
    return block, used


def superblocks(image: Path, block: int) -> list[Range]:
    """Blocks that hold a superblock, as `(first, last + 1)`."""
    said = run("dumpe2fs", str(image), timeout=300)
    found = {int(n) for n in re.findall(r"(?:Primary|Backup) superblock at (\d+)", said)}
    assert (1 if block == 1024 else 0) in found
    return [(number, number + 1) for number in sorted(found)]


def unwritten(image: Path) -> list[Range]:
    """Blocks that belong to a file but were never written, as `(first, last + 1)`."""
    said = run("dumpe2fs", str(image), timeout=300)
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


def fsck(slot: Path, volume: Path, scratch: Path) -> str:
    """What e2fsck finds in the copy with the volume's superblocks: empty when nothing is wrong.

    A journal that was not empty, and files that were deleted while open, are no faults: the next
    mount deals with these. Nor is what e2fsck finds in the volume, too. Needs root.
    """
    block, _, _ = disk.free_blocks(volume, whole(volume))
    run("cp", "--sparse=always", str(slot), str(scratch))
    with open(volume, "rb") as ours, open(scratch, "r+b") as theirs:
        for first, last in superblocks(volume, block):
            ours.seek(first * block)
            theirs.seek(first * block)
            theirs.write(ours.read((last - first) * block))
    said = disk.e2fsck(scratch, whole(scratch))
    if not said:
        return ""
    with tempfile.TemporaryDirectory(dir=scratch.parent) as top:
        run("mount", "-o", "loop", str(scratch), top)  # e2fsck -p leaves the orphan file unclean
        run("umount", top)
    said = disk.e2fsck(scratch, whole(scratch))
    if said and said.replace(scratch.name, "") == _fsck_of_volume(volume, scratch):
        return ""  # without a journal, nobody takes care of deleted files that are still open
    return said


def _fsck_of_volume(volume: Path, scratch: Path) -> str:
    """What e2fsck finds in the volume itself after a mount, without the image's name."""
    run("cp", "--sparse=always", str(volume), str(scratch))
    with tempfile.TemporaryDirectory(dir=scratch.parent) as top:
        run("mount", "-o", "loop", str(scratch), top)
        run("umount", top)
    return disk.e2fsck(scratch, whole(scratch)).replace(scratch.name, "")


def _differing(volume: Path, slot: Path, block: int, count: int) -> Any:
    found = np.zeros(count, dtype=bool)
    step = max(1, (8 << 20) // block)
    with open(volume, "rb") as ours, open(slot, "rb") as theirs:
        for first in range(0, count, step):
            size = min(step, count - first) * block
            left, right = ours.read(size), theirs.read(size)
            if left != right:
                a, b = (np.frombuffer(side, np.uint8).reshape(-1, block) for side in (left, right))
                found[first : first + len(a)] = (a != b).any(axis=1)
    return found


def _in_blocks(ranges: Iterable[Range], block: int) -> list[Range]:
    return [(start // block, -(-end // block)) for start, end in ranges]


def _told(image: Path, number: int) -> str:
    said = disk.debugfs_about(image, whole(image), "icheck", [number])
    owner = re.findall(rf"^{number}\t(\d+)$", said, re.MULTILINE)
    if not owner:
        return f"  block {number}: metadata, or of a deleted file"
    named = disk.debugfs_about(image, whole(image), "ncheck", [int(owner[0])]).splitlines()
    return f"  block {number}: inode {owner[0]} {named[-2:]}"
