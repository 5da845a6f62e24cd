# SPDX-License-Identifier: GPL-3.0-or-later
"""Where built things are kept, by content: `$DPSR_CACHE`, else `$XDG_CACHE_HOME/dpsr`."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def folder() -> Path:
    """The cache; made when it is not there."""
    base = os.environ.get("DPSR_CACHE")
    if base is None:
        home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        base = os.path.join(home, "dpsr")
    path = Path(base)
    path.mkdir(parents=True, exist_ok=True)
    return path.resolve()


def built(kind: str, key: str, build: Callable[[Path], None]) -> Path:
    """The folder of the thing called `key`; `build` fills it when it is not there yet.

    Several processes may ask at once: one builds, the others wait for it. What `build` leaves
    behind when it fails is removed.
    """
    done = folder() / kind / key
    if done.is_dir():
        os.utime(done)  # tells a person who cleans up what is still in use
        return done
    done.parent.mkdir(exist_ok=True)
    with waiting(done.with_name(f"{key}.lock")):
        if not done.is_dir():
            part = done.with_name(f"{key}.part")
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            try:
                build(part)
                part.rename(done)
            except BaseException:
                shutil.rmtree(part, ignore_errors=True)
                raise
    return done


@contextmanager
def waiting(path: Path) -> Iterator[None]:
    """Hold the lock file `path`, after whoever holds it now."""
    with open(path, "w", encoding="ascii") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for one guest's overlays, removed afterwards.

    In the cache, since /tmp may be in memory (Debian 13) and overlays can grow to gigabytes.
    Folders that a killed process left behind are removed first.
    """
    base = folder() / "guests"
    base.mkdir(exist_ok=True)
    for other in base.iterdir():
        with suppress(OSError, ValueError):
            if not _alive(int(other.name.split("-")[0])):
                shutil.rmtree(other, ignore_errors=True)
    path = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=base))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()
