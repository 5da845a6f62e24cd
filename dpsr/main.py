# SPDX-License-Identifier: GPL-3.0-or-later
"""The command `dpsr`: one place that starts it, and one that says how it ended."""

import json
import sys
from collections.abc import Sequence
from typing import NoReturn

from core.errors import ToolError
from core.signals import Ended, unwinding


def main() -> NoReturn:
    """Run the command line, and turn every end into a sentence and an exit code."""
    try:
        with unwinding():
            run(sys.argv[1:])
    except ToolError as error:
        _say(str(error), error.disk_holds, error.hint, error.exit_code)
        sys.exit(error.exit_code)
    except Ended as ended:
        _say("Interrupted.", ended.disk_holds, "", ended.exit_code)
        sys.exit(ended.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as fault:
        _report(fault)
        sys.exit(1)
    sys.exit(0)


def run(words: Sequence[str]) -> None:
    """Carry out one command line.

    `dpsr status` is asked often, by people and by monitoring: in the forms that need no parsing it
    goes without typer, which takes longer to load than status takes to answer.
    """
    if tuple(words) in {("status",), ("status", "--json")}:
        from dpsr.status import show

        sys.exit(show("system", as_json="--json" in words))
    from dpsr.app import application

    application()(list(words), prog_name="dpsr")


def _say(sentence: str, disk_holds: str, hint: str, exit_code: int) -> None:
    """Tell people or, with `--progress json`, a program, how it ended."""
    if "--progress=json" in sys.argv or "json" in _after("--progress"):
        event = {"event": "error", "text": sentence, "hint": hint, "exit_code": exit_code}
        line = json.dumps(event | ({"disk_holds": disk_holds} if disk_holds else {}))
    else:
        line = "\n".join(filter(None, (f"dpsr: {sentence}", disk_holds, hint)))
    sys.stderr.write(line + "\n")


def _after(option: str) -> list[str]:
    return [word for before, word in zip(sys.argv, sys.argv[1:], strict=False) if before == option]


def _report(fault: Exception) -> None:
    """A fault of ours: a sentence for the person, the traceback for who mends it."""
    import syslog
    import traceback

    trace = "".join(traceback.format_exception(fault))
    syslog.openlog("dpsr", syslog.LOG_PID)
    for line in trace.splitlines():
        syslog.syslog(syslog.LOG_ERR, line)
    if "--debug" in sys.argv:
        sys.stderr.write(trace)
    _say(
        f"Something went wrong that dpsr did not expect: {type(fault).__name__}: {fault}",
        getattr(fault, "disk_holds", ""),
        "Details: journalctl -t dpsr. Please report them: this is a fault of dpsr itself.",
        1,
    )


if __name__ == "__main__":
    main()
