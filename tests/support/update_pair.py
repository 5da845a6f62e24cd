# SPDX-License-Identifier: GPL-3.0-or-later
"""A mounted ext4 volume and its slot, with backups by the whole engine, judged by the oracle."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from typing import Final

import pytest

from builder.change.superblock import parse
from builder.copying.direct import SlotWriter, Writer
from builder.digests.keeper import Keeper
from builder.still.live import LiveOptions, copy_live
from core import points
from core.errors import CommandFailed
from core.model.blockset import BlockSet
from core.model.live import Earlier, Found, Instant, Source
from core.run import run
from core.screen import PlainScreen, Screen
from tests.support import ext4_pair
from tests.support.oracle import Picture

OPTIONS: Final = LiveOptions(quiet_for=0.02, quiet_wait=0.3, max_freeze=60)
_GATHERED: Final = 1 << 20
"""Bytes that a writer keeps to itself: by far not all that is written in one pass."""


@dataclass
class Gathering:
    """Writes as an undo-logged writer does: in batches, so that a write is not there at once."""

    under: SlotWriter
    written: list[tuple[int, int]] = field(default_factory=list)
    """What was asked for, as `(start, end)`, in order."""
    _kept: list[tuple[int, memoryview]] = field(default_factory=list)
    _size: int = 0

    def write(self, offset: int, view: memoryview) -> None:
        self.written.append((offset, offset + len(view)))
        self._kept.append((offset, memoryview(bytearray(view))))
        self._size += len(view)
        if self._size >= _GATHERED:
            self._let_go()

    def flush(self) -> None:
        self._let_go()
        self.under.flush()

    @property
    def is_empty(self) -> bool:
        return not self._kept

    def _let_go(self) -> None:
        for offset, view in self._kept:
            self.under.write(offset, view)
        self._kept, self._size = [], 0


class Pair(ext4_pair.Pair):
    """One volume and its slot; `prepare` once, then `update` as often as you like."""

    keeper: Keeper | None = None
    """Who keeps digests, if anybody does."""
    last: Instant | None = None
    found: Found | None = None
    written: BlockSet | None = None
    """By the last update, identity blocks among it."""
    kept: Picture | None = None
    """The volume as it was at the point `frozen`."""

    @property
    def mounts(self) -> int:
        """How often the volume was mounted."""
        with self.volume.open("rb") as image:
            return parse(image.read(2048)[1024:], "it").mounts

    @property
    def source(self) -> Source:
        """As the engine sees it now."""
        number = os.stat(self.top).st_dev
        return Source(
            name="root",
            mountpoint=str(self.top),
            device=f"/dev/loop{os.minor(number)}",
            tracked=(os.major(number), os.minor(number)),
            offset=0,
            size=self.volume.stat().st_size,
            target=str(self.slot),
            compared=self.keeper.equal("root") if self.keeper else None,
        )

    def grow(self, size: int) -> None:
        """Make volume and slot larger: mounted, where the kernel allows that."""
        for image in (self.volume, self.slot):
            os.truncate(image, size)
        run("losetup", "--set-capacity", self.source.device)
        try:
            run("resize2fs", self.source.device)
        except CommandFailed:  # without CAP_SYS_RESOURCE, as in a container
            self.__exit__()
            run("resize2fs", "-f", str(self.volume))
            self.__enter__()
        self.learn_identity()

    def prepare(self, options: LiveOptions = OPTIONS) -> None:
        """The first copy, with fix-ups."""
        with self._keeping(), closing(SlotWriter(str(self.slot))) as writer:
            self.last = copy_live(
                [self.source], options, PlainScreen(), self._noting({"root": writer})
            )
        faults = self._judge()
        assert not faults, (self.options, faults)

    def update(
        self,
        options: LiveOptions = OPTIONS,
        screen: Screen | None = None,
        begin: Callable[[Found], None] = lambda _: None,
        *,
        full: bool = False,
        mounts: int | None = None,
        moments: Mapping[str, Callable[[], None]] = {},
    ) -> Instant:
        """A backup; the oracle must find nothing wrong with it.

        `mounts`: what the machine remembers; by default the truth. `moments`: what is done at
        which named point.
        """
        assert self.last is not None
        earlier = Earlier(
            always=self.fixed.union(self.last.swap["root"]),
            mounts=self.last.mounts["root"] if mounts is None else mounts,
            full=full,
        )
        source = replace(self.source, earlier=earlier)
        before = self.slot.stat().st_mtime_ns
        with ExitStack() as stack:
            stack.enter_context(self._keeping(moments))
            writer = Gathering(stack.enter_context(closing(SlotWriter(source.target))))

            def begun(found: Mapping[str, Found]) -> dict[str, Writer]:
                assert not writer.written
                assert self.slot.stat().st_mtime_ns == before, "written before the update began"
                begin(found["root"])
                self.found = found["root"]
                return self._noting({"root": writer})

            instant = copy_live([source], options, screen or PlainScreen(), begin=begun)
        assert writer.is_empty
        identity = [at for at, _ in instant.identity["root"]]
        assert [start for start, _ in writer.written[: len(identity)]] == identity
        self.last, self.written = instant, BlockSet.of(writer.written)
        faults = self._judge()
        assert not faults, (self.options, faults)
        return instant

    def _noting(self, writers: dict[str, Writer]) -> dict[str, Writer]:
        return self.keeper.writers(writers) if self.keeper else writers

    @contextmanager
    def _keeping(self, moments: Mapping[str, Callable[[], None]] = {}) -> Iterator[None]:
        """Within, the volume is kept as it is at the point `frozen`."""

        def reach(name: str) -> None:
            moments.get(name, lambda: None)()
            if name == "frozen":
                self.kept = self.picture()
                assert self.kept.unwritten is not None  # asked while it is what it was

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(points, "reach", reach)
            yield

    def _judge(self) -> list[str]:
        """What is wrong with the slot; then gives it an identity and fix-ups."""
        assert self.last is not None
        assert self.kept is not None
        content = self.last.identity["root"]
        with self.slot.open("r+b") as copy:
            for at, data in content:
                copy.seek(at)
                assert not copy.read(len(data)).strip(b"\0"), f"identity at {at} was written"
                frozen = self.kept.data[at : at + len(data)].tobytes()
                assert frozen == data, f"not the identity at {at}"
                copy.seek(at)
                copy.write(data)
        self.swap = self.last.swap["root"]
        return self.judge(self.kept)
