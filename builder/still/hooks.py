# SPDX-License-Identifier: GPL-3.0-or-later
"""An administrator's commands around the freeze: a database that is to rest for that moment.

When a try fails both have run, and both run again in the next one: nothing that takes long is
done between them. `before_freeze` may leave a program behind, such as a session that holds a lock:
`after_thaw` ends it. So nobody waits for the end of what they print, which goes to a file without
a name.
"""

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Final

from core import run
from core.errors import HookFailed
from core.screen import Screen

_LOOK: Final = 0.01
"""Seconds between two looks whether a hook has ended."""
_TOLD: Final = 2000
"""Bytes of what it printed that are told, from the end."""


@dataclass(frozen=True, slots=True)
class Hooks:
    """Commands for /bin/sh; empty: none. They run as root, as dpsr does."""

    before_freeze: str = ""
    after_thaw: str = ""
    seconds: float = 30.0
    """Each of them is stopped when it takes longer."""


NO_HOOKS: Final = Hooks()


@contextmanager
def around_freeze(hooks: Hooks, mountpoints: Sequence[str], screen: Screen) -> Iterator[bool]:
    """Within, `before_freeze` has done its work; `after_thaw` follows, whatever happens.

    Yields whether there was something to do. Their environment has DPSR_HOOK (the name of the
    hook) and DPSR_MOUNTPOINTS (one a line). Raises HookFailed when `before_freeze` fails or takes
    too long; `after_thaw` runs then, too.
    """
    try:
        if hooks.before_freeze:
            screen.note("Running before_freeze")
            _run("before_freeze", hooks.before_freeze, hooks.seconds, mountpoints)
        yield bool(hooks.before_freeze)
    finally:
        if hooks.after_thaw:
            try:
                _run("after_thaw", hooks.after_thaw, hooks.seconds, mountpoints)
            except HookFailed as reason:
                screen.warn(str(reason))


def _run(name: str, command: str, seconds: float, mountpoints: Sequence[str]) -> None:
    places = "\n".join(mountpoints)
    with tempfile.TemporaryFile() as output:
        child = run.start(
            "env", f"DPSR_HOOK={name}", f"DPSR_MOUNTPOINTS={places}", "/bin/sh", "-c", command,
            stdout=output.fileno(), stderr=output.fileno(),
        )  # fmt: skip
        deadline = time.monotonic() + seconds
        try:
            while (status := child.poll()) is None:
                if time.monotonic() > deadline:
                    raise HookFailed(f"{name} did not end within {seconds:g} s. {_said(output)}")
                time.sleep(_LOOK)
        finally:
            if child.returncode is None:
                run.end(child)
        if status != 0:
            raise HookFailed(f"{name} failed with exit status {status}. {_said(output)}")


def _said(output: IO[bytes]) -> str:
    """What it printed, or its end."""
    size = output.seek(0, 2)
    output.seek(max(0, size - _TOLD))
    said = output.read().decode("utf-8", "replace").strip()
    if not said:
        return "It printed nothing."
    return f"It printed: {said}" if size <= _TOLD else f"It printed at the end: {said}"
