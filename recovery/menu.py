# SPDX-License-Identifier: GPL-3.0-or-later
"""Lets a person choose with a few keys, on every console at once: the screen and the serial line.

Arrow keys and Enter, or the number of a line.
"""

import contextlib
import os
import select
import termios
import time
import tty
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from recovery.consoles import ConsoleScreen

UP: Final = "up"
DOWN: Final = "down"
ENTER: Final = "enter"
_KEYS: Final = {
    b"\x1b[A": UP, b"\x1bOA": UP, b"\x1b[B": DOWN, b"\x1bOB": DOWN,
    b"\r": ENTER, b"\n": ENTER,
}  # fmt: skip
_LOOK_EVERY: Final = 1.0
"""Seconds between two looks at whether there is still something to ask."""
_HELP: Final = "Arrow keys and Enter, or the number."
_ESCAPE: Final = 0x1B


@dataclass(frozen=True, slots=True)
class Menu:
    """A list of lines, one of them marked."""

    lines: tuple[str, ...]
    marked: int = 0

    def press(self, key: str) -> tuple["Menu", int | None]:
        """What a key does: the menu afterwards, and the line that is chosen, if any."""
        if key.isdecimal():
            number = int(key) - 1
            known = 0 <= number < len(self.lines)
            return (replace(self, marked=number), number) if known else (self, None)
        if key == ENTER:
            return self, self.marked
        step = {UP: -1, DOWN: 1}[key]
        return replace(self, marked=(self.marked + step) % len(self.lines)), None

    def text(self) -> list[str]:
        """The lines as they are shown."""
        return [
            f"{' >' if number == self.marked else '  '} {number + 1}  {line}"
            for number, line in enumerate(self.lines)
        ]


def keys(data: bytes) -> tuple[list[str], bytes]:
    """The keys in what a terminal sent, and the beginning of one that is not all there yet."""
    found: list[str] = []
    while data:
        if data[0] == _ESCAPE:
            size = 3 if data[1:2] in {b"[", b"O", b""} else 1
            if len(data) < size:
                return found, data
        else:
            size = 1
        word, data = data[:size], data[size:]
        if (key := _KEYS.get(word)) is not None:
            found.append(key)
        elif word.isdigit():
            found.append(word.decode())
    return found, b""


def ask(
    screen: ConsoleScreen,
    question: str,
    lines: Sequence[str],
    over: Callable[[], bool] = lambda: False,
) -> tuple[int | None, str]:
    """Let a person choose one of `lines`: its index, and the console where it was chosen.

    None when `over` has become true meanwhile. Waits for ever.
    """
    menu = Menu(tuple(lines))
    with _listening(screen.paths) as consoles:
        screen.step(question)
        screen.lines([*menu.text(), f"  {_HELP}"])
        rests = dict.fromkeys(consoles, b"")
        looked = time.monotonic()
        while True:
            ready, _, _ = select.select(list(consoles), (), (), _LOOK_EVERY)
            for console in ready:
                with contextlib.suppress(OSError):
                    pressed, rests[console] = keys(rests[console] + os.read(console, 64))
                    for key in pressed:
                        menu, chosen = menu.press(key)
                        screen.again([*menu.text(), f"  {_HELP}"])
                        if chosen is not None:
                            return chosen, consoles[console]
            if time.monotonic() - looked >= _LOOK_EVERY:
                looked = time.monotonic()
                if over():
                    return None, ""


@contextlib.contextmanager
def _listening(paths: Sequence[str]) -> Iterator[dict[int, str]]:
    """The consoles by descriptor, each key coming at once and unseen; as before afterwards."""
    with contextlib.ExitStack() as stack:
        found: dict[int, str] = {}
        for path in paths:
            with contextlib.suppress(OSError, termios.error):
                console = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
                stack.callback(os.close, console)
                before = termios.tcgetattr(console)
                tty.setraw(console)
                after = termios.tcgetattr(console)
                after[1] = before[1]  # what is shown goes on as before
                termios.tcsetattr(console, termios.TCSAFLUSH, after)
                stack.callback(termios.tcsetattr, console, termios.TCSADRAIN, before)
                found[console] = path
        yield found


def shell(console: str) -> None:
    """A shell on this console, until it is left. In a process of its own, for a terminal."""
    child = os.fork()
    if child == 0:
        with contextlib.suppress(OSError):
            os.login_tty(os.open(console, os.O_RDWR))
            os.execve("/bin/sh", ["sh", "-i"], {**os.environ, "PS1": "(rescue) # "})  # noqa: S606
        os._exit(127)
    os.waitpid(child, 0)
