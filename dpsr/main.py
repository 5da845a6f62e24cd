# SPDX-License-Identifier: GPL-3.0-or-later
"""The command `dpsr`: one place that starts it, and one that says how it ended."""

import sys
from collections.abc import Sequence
from typing import NoReturn

from core.errors import ToolError
from core.signals import Ended, unwinding
from dpsr.ending import say, tell


def main() -> NoReturn:
    """Run the command line, and turn every end into a sentence and an exit code."""
    try:
        with unwinding():
            run(sys.argv[1:])
    except ToolError as error:
        tell(error)
        sys.exit(error.exit_code)
    except Ended as ended:
        say("Interrupted.", ended.disk_holds, "", ended.exit_code)
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
    say(
        f"Something went wrong that dpsr did not expect: {type(fault).__name__}: {fault}",
        getattr(fault, "disk_holds", ""),
        "Details: journalctl -t dpsr. Please report them: this is a fault of dpsr itself.",
        1,
    )


if __name__ == "__main__":
    main()
