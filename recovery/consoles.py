# SPDX-License-Identifier: GPL-3.0-or-later
"""What the rescue system says, on every console at once: the screen and the serial line."""

import textwrap
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from core.screen import Advance, Screen, human

_ACTIVE: Final = Path("/sys/class/tty/console/active")
_EVERY: Final = 2.0
"""Seconds between two lines of progress."""


_WIDTH: Final = 78
"""Columns; a screen in text mode has 80."""


def wrapped(text: str, first: str, rest: str) -> str:
    """`text` in lines that fit a screen, no word broken. `first`, `rest`: what is before them."""
    lines: list[str] = []
    for part in text.split("\n"):
        lines += textwrap.wrap(
            " ".join(part.split()), _WIDTH, initial_indent=rest if lines else first,
            subsequent_indent=rest, break_long_words=False, break_on_hyphens=False,
        )  # fmt: skip
    return "\n".join(lines)


class ConsoleScreen(Screen):
    """Plain lines that a layman understands."""

    def __init__(self) -> None:
        names = _ACTIVE.read_text("ascii").split() if _ACTIVE.is_file() else []
        self.paths: Sequence[str] = [f"/dev/{name}" for name in names] or ["/dev/console"]
        """Devices of the consoles."""

    def step(self, sentence: str) -> None:
        self._line(f"\n{wrapped(sentence, '', '  ')}")

    def note(self, sentence: str) -> None:
        self._line(wrapped(sentence, "  ", "  "))

    def warn(self, sentence: str) -> None:
        self._line(f"\n{wrapped(sentence, '*** ', '    ')}")

    @contextmanager
    def progress(self, what: str, total: int) -> Iterator[Advance]:
        del what
        done = 0
        said = time.monotonic()

        def advance(count: int) -> None:
            nonlocal done, said
            done += count
            if time.monotonic() - said >= _EVERY:
                said = time.monotonic()
                self._line(f"  {done * 100 // max(total, 1):3} % of {human(total)}")

        yield advance
        self._line(f"  100 % of {human(total)}")

    def lines(self, texts: Sequence[str]) -> None:
        """Several lines, one below the other."""
        self._line("\n".join(texts))

    def again(self, texts: Sequence[str]) -> None:
        """The same number of lines in the place of those before."""
        self._line(f"\x1b[{len(texts)}A" + "\n".join(f"\x1b[2K{text}" for text in texts))

    def clear(self) -> None:
        """An empty screen: what a kernel says before is nothing for a person."""
        self._write("\x1b[H\x1b[2J")

    def _line(self, text: str) -> None:
        self._write(text.replace("\n", "\r\n") + "\r\n")

    def _write(self, text: str) -> None:
        for path in self.paths:
            with suppress(OSError), open(path, "w", encoding="utf-8") as stream:
                stream.write(text)
