# SPDX-License-Identifier: GPL-3.0-or-later
"""A disk with a volatile write cache, for the files of one folder, and power cuts at any instant.

While a `Recorder` is in force, each write, sync, rename and removal is noted in order. `Cut` makes
of the first so many of them what a disk may hold after a power cut: what was synced, and of the
rest any of it, in any order, torn at sectors of 512 bytes. Each file has a cache of its own, and
names are kept only by a sync of their folder: stricter than any real disk and file system.
"""

import os
import random
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeVar
from unittest import mock

SECTOR: Final = 512
How = Literal["none", "all", "last", "but-last", "some"]
_SHARES: Final = (0.1, 0.5, 0.9)
HOWS: Final[tuple[How, ...]] = ("none", "all", "last", "but-last", "some")


@dataclass(frozen=True, slots=True)
class Write:
    file: int
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Resize:
    file: int
    size: int
    grow_only: bool


@dataclass(frozen=True, slots=True)
class Sync:
    file: int


@dataclass(frozen=True, slots=True)
class Name:
    """The names that change together: to a file, or to nothing."""

    names: tuple[tuple[str, int | None], ...]


@dataclass(frozen=True, slots=True)
class SyncNames:
    pass


Event = Write | Resize | Sync | Name | SyncNames
Item = TypeVar("Item")


@dataclass(slots=True)
class Start:
    """What the disk holds at the beginning, all of it synced."""

    names: dict[str, int] = field(default_factory=dict)
    content: dict[int, bytes] = field(default_factory=dict)


class Recorder:
    """Notes what happens to the files below `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.start = Start()
        self.events: list[Event] = []
        self._files: dict[int, int] = {}
        """By inode."""
        self._now: dict[int, bytearray] = {}
        self._names: dict[str, int] = {}
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                name = str(path.relative_to(folder))
                self._names[name] = self._new(path.stat().st_ino)
                self._now[self._names[name]] = bytearray(path.read_bytes())
        self.start.names = dict(self._names)
        self.start.content = {file: bytes(data) for file, data in self._now.items()}

    def _new(self, inode: int) -> int:
        self._files[inode] = len(self._now)
        self._now[len(self._now)] = bytearray()
        return self._files[inode]

    def _file(self, descriptor: int) -> int | None:
        return self._files.get(os.fstat(descriptor).st_ino)

    def _relative(self, path: Any) -> str | None:
        text = os.path.abspath(os.fspath(path))
        root = f"{self.folder}/"
        return text[len(root) :] if text.startswith(root) else None

    def _add(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, Write):
            now = self._now[event.file]
            now.extend(bytes(max(event.offset + len(event.data) - len(now), 0)))
            now[event.offset : event.offset + len(event.data)] = event.data
        elif isinstance(event, Resize):
            self._now[event.file] = _resized(self._now[event.file], event)

    def _catch_up(self, descriptor: int, file: int) -> None:
        """Note what Python's own streams have written, which nobody sees."""
        data = Path(f"/proc/self/fd/{descriptor}").read_bytes()
        if data != self._now[file]:
            self._add(Resize(file, len(data), grow_only=False))
            self._add(Write(file, 0, data))

    @contextmanager
    def recording(self) -> Iterator["Recorder"]:
        """Put this recorder between the code and the kernel."""
        with ExitStack() as stack:
            for name in _SEEN:
                stack.enter_context(mock.patch.object(os, name, self._wrap(name)))
            yield self

    def _wrap(self, name: str) -> Callable[..., Any]:
        call = getattr(os, name)
        note = getattr(self, f"_on_{name}")

        def wrapped(*args: Any, **named: Any) -> Any:
            return note(call, *args, **named)

        return wrapped

    def _on_open(self, call: Any, path: Any, flags: int, *rest: Any, **named: Any) -> int:
        descriptor: int = call(path, flags, *rest, **named)
        name = self._relative(path)
        if name is not None and flags & os.O_CREAT and name not in self._names:
            file = self._new(os.fstat(descriptor).st_ino)
            self._names[name] = file
            self._add(Name(((name, file),)))
        return descriptor

    def _on_pwrite(self, call: Any, descriptor: int, data: Any, offset: int) -> int:
        done: int = call(descriptor, data, offset)
        if (file := self._file(descriptor)) is not None:
            self._add(Write(file, offset, bytes(data)[:done]))
        return done

    def _on_pwritev(self, call: Any, descriptor: int, views: Any, offset: int) -> int:
        done: int = call(descriptor, views, offset)
        if (file := self._file(descriptor)) is not None:
            self._add(Write(file, offset, b"".join(bytes(view) for view in views)[:done]))
        return done

    def _on_fsync(self, call: Any, descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            self._add(SyncNames())
        elif (file := self._file(descriptor)) is not None:
            self._catch_up(descriptor, file)
            self._add(Sync(file))

    _on_fdatasync = _on_fsync

    def _on_ftruncate(self, call: Any, descriptor: int, size: int) -> None:
        call(descriptor, size)
        if (file := self._file(descriptor)) is not None:
            self._add(Resize(file, size, grow_only=False))

    def _on_posix_fallocate(self, call: Any, descriptor: int, offset: int, size: int) -> None:
        call(descriptor, offset, size)
        if (file := self._file(descriptor)) is not None:
            self._add(Resize(file, offset + size, grow_only=True))

    def _on_replace(self, call: Any, old: Any, new: Any) -> None:
        call(old, new)
        if (source := self._relative(old)) is not None:
            target = self._relative(new)
            assert target is not None
            file = self._names.pop(source)
            self._names[target] = file
            self._add(Name(((source, None), (target, file))))

    def _on_unlink(self, call: Any, path: Any, **named: Any) -> None:
        call(path, **named)
        if (name := self._relative(path)) is not None:
            del self._names[name]
            self._add(Name(((name, None),)))


_SEEN: Final = (
    "open", "pwrite", "pwritev", "fsync", "fdatasync", "ftruncate", "posix_fallocate", "replace",
    "unlink",
)  # fmt: skip


class Cut:
    """What the disk may hold when the power fails after the first `count` events."""

    def __init__(self, recorder: Recorder, count: int) -> None:
        self.content = dict(recorder.start.content)
        self.names = dict(recorder.start.names)
        self._pending: dict[int, list[Write | Resize]] = {}
        self._pending_names: list[Name] = []
        for event in recorder.events[:count]:
            if isinstance(event, Write | Resize):
                self._pending.setdefault(event.file, []).append(event)
            elif isinstance(event, Sync):
                kept = _kept(self.content.get(event.file, b""), self._pending.pop(event.file, []))
                self.content[event.file] = kept
            elif isinstance(event, Name):
                self._pending_names.append(event)
            else:
                self._take(self._pending_names)
                self._pending_names = []

    @property
    def certain(self) -> bool:
        """Whether there is only one way in which it can end."""
        return not self._pending and not self._pending_names

    def materialise(self, folder: Path, how: How, dice: random.Random) -> None:
        """Write one of the possible disks to `folder`, which is empty."""
        for file, writes in self._pending.items():
            old = self.content.get(file, b"")
            if how == "some":
                self.content[file] = _torn(old, writes, dice)
            else:
                self.content[file] = _kept(old, _chosen(writes, how))
        if how == "some":
            chosen = [name for name in self._pending_names if dice.random() < 0.5]
        else:
            chosen = _chosen(self._pending_names, how)
        self._take(chosen)
        (folder / "vault").mkdir(parents=True)
        for name, file in self.names.items():
            (folder / name).write_bytes(self.content.get(file, b""))

    def _take(self, events: list[Name]) -> None:
        for event in events:
            for name, file in event.names:
                if file is None:
                    self.names.pop(name, None)
                else:
                    self.names[name] = file


def _chosen(events: list[Item], how: How) -> list[Item]:
    return {"none": [], "all": events, "last": events[-1:], "but-last": events[:-1]}[how]


def _kept(old: bytes, events: list[Write | Resize]) -> bytes:
    now = bytearray(old)
    for event in events:
        if isinstance(event, Resize):
            now = _resized(now, event)
        else:
            now.extend(bytes(max(event.offset + len(event.data) - len(now), 0)))
            now[event.offset : event.offset + len(event.data)] = event.data
    return bytes(now)


def _torn(old: bytes, events: list[Write | Resize], dice: random.Random) -> bytes:
    """Each sector as any of the writes left it, the length as any of them."""
    share = dice.choice(_SHARES)
    size = len(_kept(old, events[: dice.randint(0, len(events))]))
    now = bytearray(old)
    for event in events:
        if isinstance(event, Resize):
            continue
        now.extend(bytes(max(event.offset + len(event.data) - len(now), 0)))
        for piece in _sectors(event, share, dice):
            now[piece.offset : piece.offset + len(piece.data)] = piece.data
    return bytes(now[:size].ljust(size, b"\0"))


def surviving(writes: Sequence[Write], how: How, dice: random.Random) -> Iterator[Write]:
    """Which of these writes, none of them flushed, a disk holds after a power cut, in order.

    `some`: any of their sectors; where two of them wrote to one, either may be the last.
    """
    if how != "some":
        yield from _chosen(list(writes), how)
        return
    share = dice.choice(_SHARES)
    for write in writes:
        yield from _sectors(write, share, dice)


def _sectors(write: Write, share: float, dice: random.Random) -> Iterator[Write]:
    """About this share of the write's sectors; those that lie side by side as one."""
    at, end, begun = write.offset, write.offset + len(write.data), -1
    while at < end:
        if dice.random() < share:
            begun = at if begun < 0 else begun
        elif begun >= 0:
            yield _part(write, begun, at)
            begun = -1
        at += SECTOR - at % SECTOR
    if begun >= 0:
        yield _part(write, begun, end)


def _part(write: Write, start: int, end: int) -> Write:
    return Write(write.file, start, write.data[start - write.offset : end - write.offset])


def _resized(now: bytearray, event: Resize) -> bytearray:
    if event.grow_only and len(now) >= event.size:
        return now
    return bytearray(now[: event.size].ljust(event.size, b"\0"))
