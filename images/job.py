# SPDX-License-Identifier: GPL-3.0-or-later
"""A program that runs in a guest, and what it came to."""

import base64
import shlex
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from core.errors import CommandFailed, ProgramTimeout
from images.wire import Agent


@dataclass(frozen=True, slots=True)
class Result:
    """What a program in the guest came to. `status` is negative for a signal."""

    status: int
    out: str
    err: str


class Job:
    """A program that runs in the guest."""

    def __init__(self, agent: Agent, pid: int, argv: Sequence[str]) -> None:
        self._agent = agent
        self.pid = pid
        self._argv = argv
        self._result: Result | None = None

    def poll(self) -> Result | None:
        """Its result, or None while it runs."""
        if self._result is None:
            said = self._agent.call("guest-exec-status", pid=self.pid)
            if said["exited"]:
                status = int(said.get("exitcode", 0)) or -int(said.get("signal", 0))
                self._result = Result(
                    status, _text(said.get("out-data")), _text(said.get("err-data"))
                )
        return self._result

    def wait(self, timeout: float = 60, ok: Collection[int] | None = (0,)) -> Result:
        """Wait for its end.

        Raises ProgramTimeout (it runs on), CommandFailed (status not in `ok`).
        """
        deadline = time.monotonic() + timeout
        pause = 0.02
        while (result := self.poll()) is None:
            if time.monotonic() > deadline:
                raise ProgramTimeout(shlex.join(self._argv), timeout)
            time.sleep(pause)
            pause = min(0.5, pause * 1.5)
        if ok is not None and result.status not in ok:
            raise CommandFailed(
                shlex.join(self._argv), result.status, f"{result.err}\n{result.out}"
            )
        return result


def _text(data: str | None) -> str:
    return base64.b64decode(data or "").decode("utf-8", "replace")
