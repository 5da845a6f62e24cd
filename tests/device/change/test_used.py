# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel's map of used blocks against that of other people's tools."""

import os
import re
from pathlib import Path

import numpy as np
import pytest

from builder.change.superblock import AT, SIZE, identity_blocks, parse
from builder.change.used import file_extents, swap_extents, used
from core.errors import CannotCopyFileSystem
from core.model.blockset import EMPTY, BlockSet
from core.run import run
from tests.support import block
from tests.support.block import MIB

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="loop devices need root")

EXT4 = [
    "-b 1024", "-b 4096", "-b 4096 -O ^flex_bg", "-b 1024 -O ^has_journal,^resize_inode",
    "-b 2048 -g 4096", "-b 4096 -O sparse_super2 -g 2048", "-b 1024 -O ^sparse_super,^resize_inode",
]  # fmt: skip


def scatter(folder: Path, count: int) -> None:
    """Small files, every other one removed: free space in many pieces."""
    for number in range(count):
        (folder / f"{number}").write_bytes(b"x" * (4096 * (1 + number % 5)))
    os.sync()
    for number in range(0, count, 2):
        (folder / f"{number}").unlink()


@pytest.mark.parametrize("options", EXT4)
def test_ext4_against_dumpe2fs(tmp_path: Path, options: str) -> None:
    size = 160 * MIB
    image = block.image(tmp_path / "image", size)
    run("mkfs.ext4", "-q", *options.split(), str(image))
    with block.loop(image) as device, block.mounted(device, tmp_path / "mnt") as folder:
        scatter(folder, 1500)
        run("fsfreeze", "--freeze", str(folder))
        try:
            maps = [used(str(folder), size, records) for records in (3, 50, 10_000)]
            block_size, bitmap = block.used_blocks(image)
        finally:
            run("fsfreeze", "--unfreeze", str(folder))
        said = run("dumpe2fs", str(image))
    assert maps[0] == maps[1] == maps[2]
    starts = np.flatnonzero(bitmap) * block_size
    expected = BlockSet.of(np.column_stack((starts, starts + block_size)).astype(np.int64))
    assert expected.minus(maps[0]) == EMPTY, "in use, and not in the map"
    # Blocks that each processor has reserved for small files are in the map alone.
    assert maps[0].minus(expected).total < (os.cpu_count() or 1) * 2 * MIB
    assert len(maps[0]) > 100
    with image.open("rb") as stream:
        stream.seek(AT)
        shape = parse(stream.read(SIZE), str(image))
    assert shape.size == size
    assert [start for start, _ in identity_blocks(shape)] == block.superblocks(image)
    assert shape.groups == len(re.findall(r"^Group \d+:", said, re.MULTILINE))


def test_xfs_against_xfs_db(tmp_path: Path) -> None:
    size = 400 * MIB
    image = block.image(tmp_path / "image", size)
    run("mkfs.xfs", "-q", str(image))
    with block.loop(image) as device, block.mounted(device, tmp_path / "mnt") as folder:
        scatter(folder, 3000)
        run("fsfreeze", "--freeze", str(folder))
        try:
            maps = [used(str(folder), size, records) for records in (3, 10_000)]
            said = run("xfs_db", "-r", "-c", "sb 0", "-c", "p agblocks blocksize", "-c",
                       "freesp -d", str(image))  # fmt: skip
        finally:
            run("fsfreeze", "--unfreeze", str(folder))
    per_group, block_size = (int(line.split(" = ")[1]) for line in said.splitlines()[:2])
    rows = [line.split() for line in said.splitlines()[2:]]
    free = []
    for row in rows:
        if len(row) == 3 and all(word.isdigit() for word in row):
            group, first, count = map(int, row)
            start = (group * per_group + first) * block_size
            free.append((start, start + count * block_size))
    expected = BlockSet.of([(0, size)]).minus(BlockSet.of(free))
    assert maps[0] == maps[1]
    assert len(free) > 100
    assert expected.minus(maps[0]) == EMPTY
    assert maps[0].minus(expected).total < 2 * MIB


def test_a_file_system_without_a_map() -> None:
    with pytest.raises(CannotCopyFileSystem, match="/proc does not tell"):
        used("/proc", 1 << 20)


def test_where_a_file_lies(tmp_path: Path) -> None:
    image = block.image(tmp_path / "image", 160 * MIB)
    run("mkfs.ext4", "-q", "-b", "4096", str(image))
    with block.loop(image) as device, block.mounted(device, tmp_path / "mnt") as folder:
        scatter(folder, 1000)
        path = folder / "file"
        content = os.urandom(20 * MIB)
        path.write_bytes(content)
        os.sync()
        maps = [file_extents(str(path)), file_extents(str(path), records=1)]
        (folder / "inline").symlink_to("short")
        (folder / "empty").touch()
        assert file_extents(str(folder / "empty")) == EMPTY
        assert file_extents(str(folder / "no such file")) == EMPTY
        assert swap_extents(str(folder)) == EMPTY
        filefrag = run("filefrag", "-v", "-b4096", str(path))
    assert maps[0] == maps[1]
    assert maps[0].total == 20 * MIB
    rows = re.findall(r"^ *\d+: *(\d+)\.\. *\d+: *(\d+)\.\. *(\d+):", filefrag, re.MULTILINE)
    expected = BlockSet.of((int(s) * 4096, (int(e) + 1) * 4096) for _, s, e in rows)
    assert maps[0] == expected
    logical, start, end = (int(word) * 4096 for word in rows[-1])
    with image.open("rb") as stream:
        stream.seek(start)
        assert stream.read(end + 4096 - start) == content[logical:][: end + 4096 - start]
