# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the demonstration is told: a live screen on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from core.screen import duration
from images.console import tail

if TYPE_CHECKING:
    from rich.console import Group

_LINES: Final = 12
"""Of the guest's console that are shown."""


class Stage:
    """Plain lines: an act when it begins, notes, and how long it took."""

    def __init__(self) -> None:
        self._log: Path | None = None

    @contextmanager
    def act(self, what: str) -> Iterator[None]:
        """One act of the story."""
        self._say(f"• {what}")
        begun = time.monotonic()
        yield
        self._say(f"  done in {duration(time.monotonic() - begun)}")

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Everything is told within this block."""
        yield

    def note(self, sentence: str) -> None:
        """Something that happens within an act."""
        self._say(f"  {sentence}")

    def watch(self, log: Path) -> None:
        """Show the end of the console log `log` from now on, where there is room for it."""
        self._log = log

    @staticmethod
    def _say(line: str) -> None:
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


class LiveStage(Stage):
    """The story so far above, what the machine's console says below."""

    def __init__(self) -> None:
        super().__init__()
        self._told: list[str] = []
        self._now = ""
        self._begun = time.monotonic()

    @contextmanager
    def shown(self) -> Iterator[None]:
        from rich.console import Console
        from rich.live import Live

        with Live(get_renderable=self._picture, console=Console(stderr=True), refresh_per_second=4):
            yield

    @contextmanager
    def act(self, what: str) -> Iterator[None]:
        self._now, self._begun = what, time.monotonic()
        try:
            yield
        except BaseException:
            self._told.append(f"[red]✗[/] {what}")
            self._now = ""
            raise
        self._told.append(
            f"[green]✓[/] {what} [dim]({duration(time.monotonic() - self._begun)})[/]"
        )
        self._now = ""

    def note(self, sentence: str) -> None:
        from rich.markup import escape

        self._told.append(f"  [dim]{escape(sentence)}[/]")

    def _picture(self) -> "Group":
        from rich.console import Group
        from rich.panel import Panel
        from rich.text import Text

        lines = list(self._told)
        if self._now:
            lines.append(f"[bold]▶ {self._now}[/] [dim]{time.monotonic() - self._begun:.0f} s[/]")
        story = Text.from_markup("\n".join(lines))
        if self._log is None or not self._log.exists():
            return Group(story)
        said = Text(tail(self._log, _LINES), no_wrap=True, overflow="ellipsis", style="cyan")
        return Group(story, Panel(said, title="console of the machine", height=_LINES + 2))


def stage_for() -> Stage:
    """The live one on a terminal, else plain lines."""
    return LiveStage() if sys.stderr.isatty() else Stage()
