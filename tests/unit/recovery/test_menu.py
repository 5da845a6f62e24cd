# SPDX-License-Identifier: GPL-3.0-or-later
"""A person chooses with a few keys, whatever terminal sends them."""

import os
import pty
import threading
from pathlib import Path

import pytest

from recovery import consoles
from recovery.consoles import ConsoleScreen
from recovery.menu import DOWN, ENTER, UP, Menu, ask, keys


@pytest.mark.parametrize(
    ("data", "found", "rest"),
    [
        (b"\x1b[A\x1b[B\r", [UP, DOWN, ENTER], b""),
        (b"\x1bOA\n", [UP, ENTER], b""),
        (b"2", ["2"], b""),
        (b"xy\x00\xff", [], b""),
        (b"1\x1b[", ["1"], b"\x1b["),
        (b"\x1b", [], b"\x1b"),
        (b"\x1bx3", ["3"], b""),
        (b"\x1b[C1", ["1"], b""),
    ],
)
def test_keys(data: bytes, found: list[str], rest: bytes) -> None:
    assert keys(data) == (found, rest)


def test_the_mark_goes_round_and_enter_takes_it() -> None:
    menu = Menu(("a", "b", "c"))
    menu, chosen = menu.press(UP)
    assert (menu.marked, chosen) == (2, None)
    menu, chosen = menu.press(DOWN)
    assert (menu.marked, chosen) == (0, None)
    assert menu.press(ENTER)[1] == 0
    assert menu.press("3")[1] == 2
    assert menu.press("4") == (menu, None)
    assert menu.press("0") == (menu, None)
    assert [line[:3] for line in menu.text()] == [" > ", "   ", "   "]


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[int, ConsoleScreen]:
    monkeypatch.setattr(consoles, "_ACTIVE", tmp_path / "none")
    screen = ConsoleScreen()
    ours, theirs = pty.openpty()
    screen.paths = [str(tmp_path / "no console"), os.ttyname(theirs)]
    return ours, screen


def test_what_is_pressed_on_any_console_counts(terminal: tuple[int, ConsoleScreen]) -> None:
    ours, screen = terminal
    found: list[tuple[int | None, str]] = []
    asking = threading.Thread(target=lambda: found.append(ask(screen, "What?", ["a", "b"])))
    asking.start()
    shown = b""
    while b"number." not in shown:
        shown += os.read(ours, 1000)
    for part in (b"\x1b[", b"B", b"\r"):
        os.write(ours, part)
    asking.join(20)
    assert found == [(1, screen.paths[1])]
    assert b"What?" in shown
    assert b" > 1  a" in shown


def test_it_ends_when_there_is_nothing_to_ask(terminal: tuple[int, ConsoleScreen]) -> None:
    assert ask(terminal[1], "What?", ["a"], lambda: True) == (None, "")
