# SPDX-License-Identifier: GPL-3.0-or-later
"""Recovery of a recorded disk that is cut off in its turn, at any of its own writes and flushes."""

import os
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final
from unittest import mock

from core.run import run
from tests.support.power_cut import How, Write, surviving
from tests.support.recorded_disk import RecordedDisk

_MOST: Final = 40
"""A cut comes within so many writes and flushes; recoveries have fewer or more."""


class PowerCut(BaseException):
    """The program ends here, without a word."""


class _Meter:
    """Counts what is written past the page cache to slots and state sector, and stops at one."""

    def __init__(self, disk: RecordedDisk, dice: random.Random) -> None:
        self.left = dice.randint(1, _MOST)
        self.dice = dice
        self.disk = disk
        self.loose: list[Write] = []
        self.files = {str(region.path) for region in (disk.control, *disk.slots.values())}

    def is_ours(self, file: int) -> bool:
        return os.readlink(f"/proc/self/fd/{file}") in self.files

    def pwritev(self, call: Callable[..., int], file: int, views: Sequence[Any], at: int) -> int:
        if not self.is_ours(file):
            return call(file, views, at)
        size = sum(len(view) for view in views)
        with open(f"/proc/self/fd/{file}", "rb", buffering=0) as stream:
            before = os.pread(stream.fileno(), size, at)
        done = call(file, views, at)
        # Taken back, not written: what is left of `before` says which sectors were lost.
        self.loose.append(Write(file, at, before[:done]))
        self._count()
        return done

    def fsync(self, call: Callable[[int], None], file: int) -> None:
        call(file)
        if self.is_ours(file):
            self._count()
            self.loose = [write for write in self.loose if write.file != file]

    def _count(self) -> None:
        self.left -= 1
        if self.left == 0:
            self._lose()
            self._keep_vault()
            raise PowerCut

    def _lose(self) -> None:
        for write in reversed(self.loose):
            how: How = self.dice.choice(("none", "all", "some"))
            for lost in surviving([write], how, self.dice):
                with open(f"/proc/self/fd/{write.file}", "r+b", buffering=0) as stream:
                    os.pwrite(stream.fileno(), lost.data, lost.offset)

    def _keep_vault(self) -> None:
        path = self.disk.vault.path
        run("cp", "--sparse=always", str(path), str(path.with_suffix(".cut")))


@contextmanager
def cut_off(disk: RecordedDisk, dice: random.Random) -> Iterator[None]:
    """Within, the power fails after some writes and flushes, if there are as many.

    The vault is then as it was on its disk, mounted, at that moment. Raises PowerCut.
    """
    meter = _Meter(disk, dice)
    with ExitStack() as stack:
        for name, note in (("pwritev", meter.pwritev), ("fsync", meter.fsync)):
            call = getattr(os, name)

            def wrapped(*args: Any, _note: Any = note, _call: Any = call) -> Any:
                return _note(_call, *args)

            stack.enter_context(mock.patch.object(os, name, wrapped))
        try:
            yield
        except PowerCut:
            path: Path = disk.vault.path
            path.unlink()
            path.with_suffix(".cut").rename(path)
            raise
