# SPDX-License-Identifier: GPL-3.0-or-later
"""How a command that did not do what it was asked for says so, to people or to a program."""

import json
import sys

from core.errors import ToolError


def tell(error: ToolError) -> None:
    """Say what happened, what the disk holds, and what to do next."""
    say(str(error), error.disk_holds, error.hint, error.exit_code)


def say(sentence: str, disk_holds: str, hint: str, exit_code: int) -> None:
    """Tell people or, with `--progress json`, a program, how it ended."""
    if "--progress=json" in sys.argv or "json" in _after("--progress"):
        event = {"event": "error", "text": sentence, "hint": hint, "exit_code": exit_code}
        line = json.dumps(event | ({"disk_holds": disk_holds} if disk_holds else {}))
    else:
        line = "\n".join(filter(None, (f"dpsr: {sentence}", disk_holds, hint)))
    sys.stderr.write(line + "\n")


def _after(option: str) -> list[str]:
    return [word for before, word in zip(sys.argv, sys.argv[1:], strict=False) if before == option]
