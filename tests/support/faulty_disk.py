# SPDX-License-Identifier: GPL-3.0-or-later
"""A disk that fails at one request, for the files of one folder.

Requests are counted in order: opening, reading, writing, reserving, syncing, naming. The one asked
for fails in a given manner; what a sync that failed was to keep is lost, as in a drive's cache.
"""

import builtins
import errno
import io
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias
from unittest import mock

Manner: TypeAlias = Literal["once", "torn", "short", "gone", "full"]
"""An error; half of it done, then an error; half of it done, which is said; no answer any more; no
room on the vault's file system from there on."""

_CALLS: Final = (
    "open", "pread", "preadv", "pwrite", "pwritev", "fsync", "fdatasync", "ftruncate",
    "posix_fallocate", "replace", "unlink",
)  # fmt: skip
_TAKES_ROOM: Final = {"open", "pwrite", "fsync", "fdatasync", "posix_fallocate", "replace"}
_DATA: Final = {"pread", "preadv", "pwrite", "pwritev"}
SECTOR: Final = 512


def matters(request: str, manner: Manner) -> bool:
    """Whether a request can fail in this manner, and not as in another one."""
    name, path = request.split()
    if manner == "full":
        return path.startswith("vault") and name in _TAKES_ROOM
    return manner in {"once", "gone"} or name in _DATA


class FaultyDisk:
    """Fails at request number `at` (from 0); with `at` None it only counts, in `requests`."""

    def __init__(self, folder: Path, at: int | None = None, manner: Manner = "once") -> None:
        self.folder = folder
        self.requests: list[str] = []
        """What each was, and to which file."""
        self.failed = ""
        """The first that failed."""
        self._at = at
        self._manner = manner
        self._lock = threading.Lock()
        self._real = {name: getattr(os, name) for name in _CALLS}
        self._kept = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        """By file: its content at its last sync."""

    @contextmanager
    def at_work(self) -> Iterator["FaultyDisk"]:
        """Put it between the code and the kernel."""
        with ExitStack() as stack:
            for name in _CALLS:
                stack.enter_context(mock.patch.object(os, name, self._wrap(name)))
            for module in (io, builtins):
                opened = self._wrap_open(module.open)
                stack.enter_context(mock.patch.object(module, "open", opened))
            yield self

    def _wrap(self, name: str) -> Callable[..., Any]:
        call = self._real[name]

        def wrapped(what: Any, *rest: Any, **named: Any) -> Any:
            path = self._path(what)
            if path is None:
                return call(what, *rest, **named)
            manner = self._next(name, path)
            if manner is None:
                done = call(what, *rest, **named)
                if name in {"fsync", "fdatasync"} and path.is_file():
                    self._kept[path] = self._content(path)
                return done
            if manner in {"torn", "short"} and name in _DATA:
                done = self._half(name, call, what, *rest)
                if manner == "short" and done:
                    return done
            elif name in {"fsync", "fdatasync"} and path.is_file():
                self._lose(path)
            raise self._error(manner)

        return wrapped

    def _wrap_open(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(what: Any, *rest: Any, **named: Any) -> Any:
            path = self._path(what)
            manner = self._next("open", path) if path is not None else None
            if manner is not None:
                raise self._error(manner)
            return call(what, *rest, **named)

        return wrapped

    def _next(self, name: str, path: Path) -> Manner | None:
        """Note a request; how it is to fail, if it is."""
        with self._lock:
            number = len(self.requests)
            self.requests.append(f"{name} {path.relative_to(self.folder)}")
            if self._at is None or number < self._at:
                return None
            if self._manner == "full":
                if "vault" not in path.parts or name not in _TAKES_ROOM:
                    return None
            elif self._manner != "gone" and number != self._at:
                return None
            self.failed = self.failed or self.requests[-1]
            return self._manner

    def _path(self, what: Any) -> Path | None:
        """The file below the folder that a descriptor or a path stands for."""
        if isinstance(what, int):
            text = os.readlink(f"/proc/self/fd/{what}")
        else:
            text = os.path.abspath(os.fspath(what))
        return Path(text) if text.startswith(f"{self.folder}/") else None

    def _half(self, name: str, call: Callable[..., Any], what: int, data: Any, offset: int) -> Any:
        view = memoryview(b"" if name == "pread" else data[0] if name.endswith("v") else data)
        size: int = data if name == "pread" else len(view)
        half = size // 2 - size // 2 % SECTOR
        if not half:
            return None  # a sector is written as a whole or not at all
        if name == "pread":
            return call(what, half, offset)
        return call(what, [view[:half]] if name.endswith("v") else view[:half], offset)

    def _content(self, path: Path) -> bytes:
        file = self._real["open"](path, os.O_RDONLY)
        try:
            content: bytes = self._real["pread"](file, os.fstat(file).st_size, 0)
            return content
        finally:
            os.close(file)

    def _lose(self, path: Path) -> None:
        """What was written since the last sync is gone."""
        content = self._kept.get(path, b"")
        file = self._real["open"](path, os.O_WRONLY)
        try:
            self._real["ftruncate"](file, len(content))
            self._real["pwrite"](file, content, 0)
        finally:
            os.close(file)

    def _error(self, manner: Manner) -> OSError:
        number = {"gone": errno.ENODEV, "full": errno.ENOSPC}.get(manner, errno.EIO)
        return OSError(number, os.strerror(number))
