# SPDX-License-Identifier: GPL-3.0-or-later
"""A unit test that starts a program fails and says which."""

import os
import pty
import subprocess
from collections.abc import Callable
from typing import NoReturn

import pytest
from hypothesis import settings

settings.register_profile("untimed", deadline=None)  # a busy machine is no fault of a test's
settings.load_profile("untimed")

STARTERS = (
    (subprocess.Popen, "__init__"),  # run, check_output, asyncio, and everything that subclasses it
    (pty, "fork"),  # pexpect
    *((os, name) for name in ("system", "popen", "posix_spawn", "posix_spawnp", "forkpty")),
    *((os, name) for name in ("execl", "execle", "execlp", "execlpe")),
    *((os, name) for name in ("execv", "execve", "execvp", "execvpe")),
)


def _refuse(how: str) -> Callable[..., NoReturn]:
    def refuse(*arguments: object, **_named: object) -> NoReturn:
        what = next((given for given in arguments if isinstance(given, str | list | tuple)), "")
        # Not an Exception: code under test that catches those must not swallow it.
        pytest.fail(f"a unit test started a program ({how}): {what!r}", pytrace=True)

    return refuse


@pytest.fixture(autouse=True)
def no_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Close every door to other programs."""
    for owner, name in STARTERS:
        monkeypatch.setattr(owner, name, _refuse(name))
