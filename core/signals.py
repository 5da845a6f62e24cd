# SPDX-License-Identifier: GPL-3.0-or-later
"""SIGTERM and SIGHUP unwind like exceptions, so that every `with` thaws, unmounts and hides.

KeyboardInterrupt does so already. `deferred` holds all three back for the short stretches that
must not be cut in the middle (a freeze, the commit of the state sector); they arrive at its end.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

_ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Ended(BaseException):
    """The process was asked to end. A BaseException, so that no `except Exception` swallows it."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum
        self.disk_holds = ""
        """As with ToolError: what the DPSR disk holds now."""

    @property
    def exit_code(self) -> int:
        """130 for Ctrl-C, else 143, as CLI.md promises."""
        return 130 if self.signum == signal.SIGINT else 143


def _raise(signum: int, _frame: FrameType | None) -> None:
    raise Ended(signum)


@contextmanager
def unwinding() -> Iterator[None]:
    """Within, each ending signal raises Ended once; further ones are ignored while it unwinds."""
    before = {number: signal.getsignal(number) for number in _ENDING}

    def first(signum: int, frame: FrameType | None) -> None:
        for number in _ENDING:
            signal.signal(number, signal.SIG_IGN)
        _raise(signum, frame)

    for number in _ENDING:
        signal.signal(number, first)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def deferred() -> Iterator[None]:
    """Within, ending signals wait; the first is delivered when the block is left.

    To block them would not do: the kernel would give them to another thread (numpy's libraries
    have some), and Python would still run our handler at once.
    """
    came: list[int] = []
    before = {number: signal.getsignal(number) for number in _ENDING}
    for number in _ENDING:
        signal.signal(number, lambda signum, _frame: came.append(signum))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])
