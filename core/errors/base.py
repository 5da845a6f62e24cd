# SPDX-License-Identifier: GPL-3.0-or-later
"""Every way in which a command can end badly: one class, one sentence, one hint, one exit code.

The numbers are a promise to programs that call `dpsr` (README lists them, a test compares):
10-49 refused, nothing was written; 50-69 a step failed, the message says what the DPSR disk
holds now; 70-79 attention; 80-89 a drill did not pass.
"""

from collections.abc import Iterator
from typing import ClassVar


class ToolError(Exception):
    """Something a person can act on. `str()` is the sentence; `hint` says what to do next."""

    exit_code: ClassVar[int] = 1
    hint: str = "This is a fault of dpsr itself; please report it with the output above."

    def __init__(self, sentence: str, hint: str | None = None) -> None:
        super().__init__(sentence)
        self.disk_holds = ""
        """What the DPSR disk holds now, in a sentence; set by the flow once it has written."""
        if hint is not None:
            self.hint = hint


def all_errors(base: type[ToolError] = ToolError) -> Iterator[type[ToolError]]:
    """Yield each error class below `base`, in the order of definition."""
    for child in base.__subclasses__():
        yield child
        yield from all_errors(child)
