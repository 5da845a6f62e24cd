# SPDX-License-Identifier: GPL-3.0-or-later
"""Freezes file systems together, for a moment that always ends.

While they are frozen this process is locked in memory, collects no garbage and hears no ending
signal; who uses `frozen` neither prints nor imports nor starts programs in it. A second process
(watchdog.py, in a systemd unit of its own, so that stopping ours does not stop it) thaws at the
deadline, or when this process is gone.
"""

import contextlib
import ctypes
import errno
import fcntl
import gc
import os
import select
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, Self

from core import run, signals
from core.errors import FreezeFailed

_FIFREEZE: Final = 0xC0045877
_FITHAW: Final = 0xC0045878
_MCL_CURRENT: Final = 1
_MCL_FUTURE: Final = 2
_MCL_ONFAULT: Final = 4
_CLOCK_REALTIME_COARSE: Final = 5
_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_SYSTEMD: Final = Path("/run/systemd/system")
_GONE: Final = "The watchdog that ends a freeze does not answer."


class Interfered(Exception):
    """Another program froze or thawed, or it took too long: another try may go better."""


class Freezer:
    """The mount points that are frozen together, in the order in which they were mounted.

    A context manager; its length is that of the watchdog's life, and of a short delay that the
    system grants before it sleeps or shuts down. `max_freeze` is in seconds.
    """

    def __init__(self, mountpoints: Sequence[str], max_freeze: float) -> None:
        self._mountpoints = tuple(mountpoints)
        self._max_freeze = max_freeze
        self._folders: dict[str, int] = {}
        self._watchdog = _Watchdog(mountpoints)
        self._undo = ExitStack()
        self.stall_seconds = 0.0
        """How long a writer can have waited in the last freeze, from its first step to its last."""

    def __enter__(self) -> Self:
        with self._undo:
            for path in self._mountpoints:
                folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                self._folders[path] = folder
                self._undo.callback(os.close, folder)
            self._undo.enter_context(_no_sleep())
            self._undo.enter_context(self._watchdog)
            self._undo = self._undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def sync(self, mountpoint: str) -> float:
        """Write back what is dirty there (syncfs); return how many seconds that took."""
        begun = time.monotonic()
        if _LIBC.syncfs(self._folders[mountpoint]) != 0:
            raise FreezeFailed(f"{mountpoint} cannot be synced: {os.strerror(ctypes.get_errno())}.")
        return time.monotonic() - begun

    @contextmanager
    def frozen(self, mountpoints: Collection[str] | None = None) -> Iterator[None]:
        """Within, the mount points (default: all) are frozen; ends with a thaw, whatever happens.

        What was read within counts only when the block is left without an exception. Raises
        FreezeFailed when a file system cannot be frozen; Interfered when another agent holds a
        freeze (that one is left alone), when the deadline passed or when somebody else thawed.
        """
        wanted = self._mountpoints if mountpoints is None else mountpoints
        # The last one mounted first: it may lie on an earlier one, as a loop device does.
        order = [path for path in reversed(self._mountpoints) if path in wanted]
        held: list[str] = []
        with signals.deferred(), _locked_in_memory():
            self._watchdog.arm(self._max_freeze)
            begun = time.monotonic()
            try:
                for path in order:
                    if time.monotonic() - begun > self._max_freeze:
                        break  # the watchdog has thawed; the end of this function says so
                    self._freeze(path)
                    held.append(path)
                else:
                    yield
            finally:
                thawed = [self._thaw(path) for path in reversed(held)]
                self.stall_seconds = time.monotonic() - begun
                in_time = self._watchdog.disarm()
            if not in_time or len(held) < len(order):
                raise Interfered(f"The freeze took longer than {self._max_freeze:g} s.")
            if not all(thawed):
                raise Interfered("Another program ended the freeze.")

    def _freeze(self, path: str) -> None:
        number = self._mountpoints.index(path)
        self._watchdog.tell(f"frozen {number}")
        try:
            fcntl.ioctl(self._folders[path], _FIFREEZE, 0)
        except OSError as error:
            self._watchdog.tell(f"thawed {number}")
            if error.errno == errno.EBUSY:
                raise Interfered(f"Another program keeps {path} frozen.") from None
            raise FreezeFailed(f"{path} cannot be frozen: {error.strerror}.") from error

    def _thaw(self, path: str) -> bool:
        """Thaw; return whether it was frozen until now. Raises nothing: others wait for theirs."""
        try:
            fcntl.ioctl(self._folders[path], _FITHAW, 0)
            was_frozen = True
        except OSError as error:
            was_frozen = False
            if error.errno != errno.EINVAL:
                return False  # the watchdog goes on trying
        with contextlib.suppress(FreezeFailed):
            self._watchdog.tell(f"thawed {self._mountpoints.index(path)}")
        return was_frozen


def wait_for_tick() -> None:
    """Wait until the clock that stamps files has advanced, so that no later write has this time."""
    now = time.clock_gettime_ns(_CLOCK_REALTIME_COARSE)
    while time.clock_gettime_ns(_CLOCK_REALTIME_COARSE) == now:
        time.sleep(0.0005)


@contextmanager
def _locked_in_memory() -> Iterator[None]:
    """Within, no page of ours is reclaimed or written out, and no garbage is collected.

    Reclaiming memory could wait for a frozen file system, which waits for us.
    """
    if _LIBC.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT) != 0:
        raise FreezeFailed(f"Memory cannot be locked: {os.strerror(ctypes.get_errno())}.")
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        _LIBC.munlockall()


@contextmanager
def _no_sleep() -> Iterator[None]:
    """Make the system wait a moment before it sleeps or shuts down: a freeze ends in that time."""
    if not _SYSTEMD.is_dir() or not run.have("systemd-inhibit"):
        yield
        return
    child = run.start(
        "systemd-inhibit", "--what=sleep:shutdown", "--mode=delay", "--who=dpsr",
        "--why=A copy of the running system is being made", "cat",
        stdin=run.PIPE,  # it ends when this process does
    )  # fmt: skip
    try:
        yield
    finally:
        run.end(child)


class _Watchdog:
    """Our end of the pipes to watchdog.py, which tells what the words mean."""

    def __init__(self, mountpoints: Sequence[str]) -> None:
        self._mountpoints = mountpoints
        self._undo = ExitStack()
        self._ready = False

    def __enter__(self) -> Self:
        # Without systemd (a rescue system, a test): a child in a session of its own.
        around: tuple[str, ...] = ("setsid", "--wait")
        if _SYSTEMD.is_dir() and run.have("systemd-run"):
            around = (
                "systemd-run", "--pipe", "--collect", "--quiet",
                f"--unit=dpsr-watchdog-{os.getpid()}-{time.monotonic_ns()}",  # the last may linger
                "--description=Ends the freeze of dpsr",
            )  # fmt: skip
        program = Path(__file__).with_name("watchdog.py")
        with self._undo:
            its_input, self._to = os.pipe()
            self._from, its_output = os.pipe()
            self._undo.callback(os.close, self._from)
            try:
                child = run.start(
                    *around, sys.executable, "-I", str(program), *self._mountpoints,
                    stdin=its_input, stdout=its_output,
                )  # fmt: skip
            finally:
                os.close(its_input)
                os.close(its_output)
            self._undo.callback(run.end, child)
            self._undo.callback(self._hear_the_end)
            self._undo.callback(os.close, self._to)  # it thaws what is frozen, and ends
            self._undo = self._undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def arm(self, seconds: float) -> None:
        if not self._ready:  # it has had the time to start while others did their part
            if self._hear() != "ready":
                raise FreezeFailed("The watchdog that ends a freeze did not start.")
            self._ready = True
        self.tell(f"arm {seconds}")
        if self._hear() != "armed":
            raise FreezeFailed(_GONE)

    def disarm(self) -> bool:
        """Whether the deadline was kept."""
        self.tell("disarm")
        return self._hear() == "in time"

    def tell(self, line: str) -> None:
        try:
            os.write(self._to, f"{line}\n".encode())
        except BrokenPipeError:
            raise FreezeFailed(_GONE) from None

    def _hear_the_end(self) -> None:
        while self._hear():  # the rest; when nothing comes any more, it has ended
            pass

    def _hear(self) -> str:
        """One answer (each comes in one piece); empty when there is none for long."""
        if not select.select([self._from], [], [], 10)[0]:
            return ""
        return os.read(self._from, 4096).decode().strip()
