# SPDX-License-Identifier: GPL-3.0-or-later
"""Thaws what the main process has frozen, at a deadline or when that process is gone.

A program of its own (`python3 -I watchdog.py MOUNTPOINT...`), locked in memory with all it needs
open, so that it works when nothing can be written any more. It is told over its standard input,
one line each, what goes on, and answers two of them:

    arm SECONDS   the deadline starts to run now                       -> armed
    frozen N      mount point N is about to be frozen, thaw it if need be
    thawed N      it is not frozen any more, or was never frozen by us
    disarm        all is done                                          -> in time, or: late

`frozen` is said before the freeze: said after it, a process killed between the two would leave a
file system frozen for ever. Imports nothing of ours: it is started with `-I`.
"""

import contextlib
import ctypes
import fcntl
import os
import select
import signal
import sys
import time

_FITHAW = 0xC0045878
_MCL_CURRENT = 1
_MCL_FUTURE = 2
_AGAIN = 0.05
"""Seconds between two thaws past the deadline: a freeze may still be on its way."""


def main(mountpoints: list[str]) -> int:
    """Serve until standard input ends; whatever is frozen then is thawed."""
    folders = [os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) for path in mountpoints]
    ctypes.CDLL(None, use_errno=True).mlockall(_MCL_CURRENT | _MCL_FUTURE)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
        score.write("-1000")
    _say("ready")
    frozen: list[int] = []
    deadline: float | None = None
    late = False
    rest = b""
    while True:
        wait = None if deadline is None else max(deadline - time.monotonic(), 0)
        if not select.select([0], [], [], wait)[0]:
            late = True
            _thaw(folders, frozen)
            deadline = time.monotonic() + _AGAIN
            continue
        given = os.read(0, 4096)
        if not given:
            _thaw(folders, frozen)
            return 0
        *lines, rest = (rest + given).split(b"\n")
        for line in lines:
            verb, _, value = line.partition(b" ")
            if verb == b"arm":
                _heed(signal.SIG_IGN)
                deadline, late = time.monotonic() + float(value), False
                _say("armed")
            elif verb == b"frozen":
                frozen.append(int(value))
            elif verb == b"thawed":
                frozen.remove(int(value))
            elif verb == b"disarm":
                deadline = None
                _heed(signal.SIG_DFL)
                _say("late" if late else "in time")


def _thaw(folders: list[int], frozen: list[int]) -> None:
    # In the order of freezing: only the last one can still be on its way into the freeze, and a
    # thaw waits for that.
    for number in frozen:
        with contextlib.suppress(OSError):  # EINVAL: it is not frozen
            fcntl.ioctl(folders[number], _FITHAW, 0)


def _heed(how: signal.Handlers) -> None:
    """While armed, being asked to end changes nothing: the deadline is near."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, how)


def _say(word: str) -> None:
    with contextlib.suppress(BrokenPipeError):  # it is gone; its end of our input closes, too
        os.write(1, f"{word}\n".encode())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
