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
file system frozen for ever. Each mount point has a thread of its own: a thaw waits for a freeze
that is still on its way, and for the file system below if there is one, and must not keep the
others from theirs. Imports nothing of ours: it is started with `-I`.

While armed it also makes the kernel hurry (see Hurry): a global option, which must be put back
however the main process ends.
"""

import contextlib
import ctypes
import fcntl
import os
import select
import signal
import sys
import threading
import time

_FITHAW = 0xC0045878
_EXPEDITED = "/sys/kernel/rcu_expedited"
_MCL_CURRENT = 1
_MCL_FUTURE = 2
_AGAIN = 0.05
"""Seconds between two thaws past the deadline: the next freeze may just have begun."""
_STACK = 256 << 10
"""Bytes; all of it is locked in memory."""


class MountPoint(threading.Thread):
    """Thaws one mount point whenever it is told to."""

    def __init__(self, path: str) -> None:
        super().__init__(daemon=True)
        self.frozen = False
        self._folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._told = threading.Event()
        self._idle = threading.Event()
        self._idle.set()
        self.start()

    def thaw(self) -> None:
        """Begin to thaw, unless that has begun already."""
        if self.frozen and self._idle.is_set():
            self._idle.clear()
            self._told.set()

    def wait(self) -> None:
        """Return when the thaw that was begun has ended."""
        self._idle.wait()

    def run(self) -> None:
        while self._told.wait():
            self._told.clear()
            with contextlib.suppress(OSError):  # EINVAL: it is not frozen
                fcntl.ioctl(self._folder, _FITHAW, 0)
            self._idle.set()


class Hurry:
    """The kernel waits shorter for its own readers; a freeze waits for them three times."""

    def __init__(self) -> None:
        self._file = -1
        self._before = b""
        with contextlib.suppress(OSError):  # a kernel without it, or a container
            self._file = os.open(_EXPEDITED, os.O_RDWR | os.O_CLOEXEC)

    def begin(self) -> None:
        """Ask for it, and remember what was before."""
        if self._file >= 0 and not self._before:
            with contextlib.suppress(OSError):
                before = os.pread(self._file, 16, 0)
                os.pwrite(self._file, b"1", 0)
                self._before = before

    def end(self) -> None:
        """Put back what was before."""
        if self._before:
            with contextlib.suppress(OSError):
                os.pwrite(self._file, self._before, 0)
            self._before = b""


def main(mountpoints: list[str]) -> int:
    """Serve until standard input ends; whatever is frozen then is thawed."""
    threading.stack_size(_STACK)
    points = [MountPoint(path) for path in mountpoints]
    hurry = Hurry()
    ctypes.CDLL(None, use_errno=True).mlockall(_MCL_CURRENT | _MCL_FUTURE)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
        score.write("-1000")
    _say("ready")
    deadline: float | None = None
    late = False
    rest = b""
    while True:
        wait = None if deadline is None else max(deadline - time.monotonic(), 0)
        if not select.select([0], [], [], wait)[0]:
            late = True
            for point in points:
                point.thaw()
            deadline = time.monotonic() + _AGAIN
            continue
        given = os.read(0, 4096)
        if not given:
            for point in points:
                point.thaw()
            for point in points:
                point.wait()
            hurry.end()
            return 0
        *lines, rest = (rest + given).split(b"\n")
        for line in lines:
            verb, _, value = line.partition(b" ")
            if verb == b"arm":
                _heed(signal.SIG_IGN)
                hurry.begin()
                deadline, late = time.monotonic() + float(value), False
                _say("armed")
            elif verb == b"frozen":
                points[int(value)].frozen = True
            elif verb == b"thawed":
                points[int(value)].frozen = False
            elif verb == b"disarm":
                deadline = None
                hurry.end()
                _heed(signal.SIG_DFL)
                _say("late" if late else "in time")


def _heed(how: signal.Handlers) -> None:
    """While armed, being asked to end changes nothing: the deadline is near."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, how)


def _say(word: str) -> None:
    with contextlib.suppress(BrokenPipeError):  # it is gone; its end of our input closes, too
        os.write(1, f"{word}\n".encode())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
