# SPDX-License-Identifier: GPL-3.0-or-later
"""Progress and messages for people and programs: a live terminal, plain lines, or JSON lines.

All of it goes to standard error; standard output belongs to the answer of the command
(`--json` prints one document there and nothing else).
"""

import json
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.progress import Progress

_PLAIN_EVERY: Final = 5.0
"""Seconds between two plain progress lines."""

Advance = Callable[[int], None]
"""Takes how many bytes are done since the last call."""


def human(size: float) -> str:
    """A size in bytes as a person says it: `human(3 * 2**30) == "3.0 GiB"`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def duration(seconds: float) -> str:
    """A length of time as a person says it: `duration(100) == "1 min 40 s"`."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} days"


def moment(taken: str) -> str:
    """A point in time (ISO 8601) as a person reads it: `2026-11-25 10:00 UTC`; else as it is."""
    try:
        return f"{datetime.fromisoformat(taken).astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    except ValueError:
        return taken


class Screen(ABC):
    """Where a command says what it does."""

    @abstractmethod
    def step(self, sentence: str) -> None:
        """A new step begins."""

    @abstractmethod
    def note(self, sentence: str) -> None:
        """Something worth knowing, inside a step."""

    @abstractmethod
    def warn(self, sentence: str) -> None:
        """Something the person should act on."""

    @abstractmethod
    @contextmanager
    def progress(self, what: str, total: int) -> Iterator[Advance]:
        """Show how far `total` bytes of `what` have come, with rate and time left."""


class PlainScreen(Screen):
    """One line a step, and one every few seconds of progress: for logs and pipes."""

    def step(self, sentence: str) -> None:
        self._line(sentence)

    def note(self, sentence: str) -> None:
        self._line(f"  {sentence}")

    def warn(self, sentence: str) -> None:
        self._line(f"Attention: {sentence}")

    @contextmanager
    def progress(self, what: str, total: int) -> Iterator[Advance]:
        begun = said = time.monotonic()
        done = 0

        def advance(count: int) -> None:
            nonlocal done, said
            done += count
            now = time.monotonic()
            if now - said >= _PLAIN_EVERY:
                said = now
                self._line(f"  {what}: {_how_far(done, total, now - begun)}")

        yield advance
        if (seconds := time.monotonic() - begun) >= 1:
            self._line(f"  {what}: {human(done)} in {duration(seconds)}")

    @staticmethod
    def _line(text: str) -> None:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


class TerminalScreen(PlainScreen):
    """A live progress bar (rich) under the plain lines."""

    def __init__(self) -> None:
        self._live: Progress | None = None

    @contextmanager
    def progress(self, what: str, total: int) -> Iterator[Advance]:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )  # fmt: skip

        columns = (
            TextColumn("  {task.description}"), BarColumn(), DownloadColumn(binary_units=True),
            TransferSpeedColumn(), TimeRemainingColumn(),
        )  # fmt: skip
        with Progress(*columns, console=Console(stderr=True), transient=True) as live:
            task = live.add_task(what, total=total)
            self._live = live
            begun = time.monotonic()
            try:
                yield lambda count: live.advance(task, count)
            finally:
                self._live = None
            done = int(live.tasks[0].completed)
        self._line(f"  {what}: {human(done)} in {duration(time.monotonic() - begun)}")


class JsonScreen(Screen):
    """One JSON object a line: `{"event": "step", "text": …}` or `{"event": "progress", …}`."""

    def step(self, sentence: str) -> None:
        self._event("step", text=sentence)

    def note(self, sentence: str) -> None:
        self._event("note", text=sentence)

    def warn(self, sentence: str) -> None:
        self._event("warning", text=sentence)

    @contextmanager
    def progress(self, what: str, total: int) -> Iterator[Advance]:
        done = 0
        said = float("-inf")

        def advance(count: int, *, last: bool = False) -> None:
            nonlocal done, said
            done += count
            if last or time.monotonic() - said >= 1:
                said = time.monotonic()
                self._event("progress", what=what, done_bytes=done, total_bytes=total)

        yield advance
        advance(0, last=True)

    @staticmethod
    def _event(event: str, **values: str | int) -> None:
        sys.stderr.write(json.dumps({"event": event, **values}) + "\n")
        sys.stderr.flush()


def screen_for(progress: str = "auto") -> Screen:
    """The screen for `--progress` (`auto`, `plain` or `json`): a terminal gets the live one."""
    if progress == "json":
        return JsonScreen()
    if progress == "auto" and sys.stderr.isatty():
        return TerminalScreen()
    return PlainScreen()


def _how_far(done: int, total: int, seconds: float) -> str:
    rate = done / seconds if seconds else 0.0
    text = f"{human(done)} of {human(total)}"
    if rate and total > done:
        text += f", {human(rate)}/s, {duration((total - done) / rate)} left"
    return text
