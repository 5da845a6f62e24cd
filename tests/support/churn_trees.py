# SPDX-License-Identifier: GPL-3.0-or-later
"""Files whose extent trees are about to change their shape, and what changes it.

An inode holds four extents. With a fifth they all move into a block of their own, and nobody
writes the data that they lead to: whoever reads just then may find them in neither place.
"""

import os
import random
from pathlib import Path
from typing import Final

from core.run import have, run
from tests.support.churn import FULL, fallocate

_APART: Final = 12_288
"""Bytes from one piece of a file to the next: a multiple of every block size."""
_FILES: Final = 24
_COLLAPSE, _INSERT = 8, 32


class Trees:
    """Some files of one to seven extents, and some that grew by turns."""

    def __init__(self, top: Path, seed: int) -> None:
        self._random = random.Random(seed)
        self._home = top / "trees"
        self._home.mkdir()
        self._files = [self._home / f"{n}" for n in range(_FILES)]
        self._turns = [self._home / f"turns{n}" for n in range(4)]
        for path in self._files:
            with path.open("wb") as stream:
                for n in range(self._random.randint(1, 7)):
                    os.pwrite(stream.fileno(), self._random.randbytes(700), n * _APART)
        for n in range(18):
            for path in self._turns:
                with path.open("r+b" if n else "wb") as stream:
                    # With holes that e4defrag leaves: the tree keeps its root.
                    place = (n + n // 3 * 5) * 4096
                    os.pwrite(stream.fileno(), self._random.randbytes(4096), place)
                    os.fsync(stream.fileno())

    def overwrite(self) -> None:
        """New data in old places: the trees stay as they are."""
        for path in self._some():
            with path.open("r+b") as stream:
                for at in range(0, path.stat().st_size, _APART):
                    if self._random.random() < 0.7:
                        os.pwrite(stream.fileno(), self._random.randbytes(700), at)

    def reshape(self) -> None:
        """New trees for the old data."""
        for path in self._some():
            kind = self._random.choice((self._add, self._add, self._cut, self._shift))
            kind(path)
        if have("e4defrag") and self._random.random() < 0.7:
            run("e4defrag", str(self._random.choice(self._turns)), ok=range(256))

    def _some(self) -> list[Path]:
        state = os.statvfs(self._home)
        if state.f_bavail < FULL * state.f_blocks:
            return []
        return self._random.sample(self._files, self._random.randint(0, _FILES))

    def _add(self, path: Path) -> None:
        pieces = -(-path.stat().st_size // _APART)
        with path.open("r+b") as stream:
            for n in range(pieces, pieces + self._random.randint(1, 4)):
                os.pwrite(stream.fileno(), self._random.randbytes(700), n * _APART)

    def _cut(self, path: Path) -> None:
        pieces = -(-path.stat().st_size // _APART)
        os.truncate(path, self._random.randint(1, max(1, pieces - 1)) * _APART)

    def _shift(self, path: Path) -> None:
        with path.open("r+b") as stream:
            if path.stat().st_size > 3 * _APART:
                fallocate(stream.fileno(), self._random.choice((_COLLAPSE, _INSERT)), 0, _APART)
