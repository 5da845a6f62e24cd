# SPDX-License-Identifier: GPL-3.0-or-later
"""Where built things are kept, by content: `$DPSR_CACHE`, else `$XDG_CACHE_HOME/dpsr`."""

import fcntl
import os
import shutil
import tempfile
import time
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
        os.utime(done)  # `prune` goes by it
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


def prune(kind: str, days: float) -> None:
    """Remove the built things of a kind that nobody has asked for in so many days."""
    base = folder() / kind
    for done in base.iterdir() if base.is_dir() else ():
        with suppress(FileNotFoundError):  # somebody else may tidy up too
            unused = time.time() - done.stat().st_mtime > days * 86400
            if unused and done.is_dir() and done.suffix != ".part":
                shutil.rmtree(done, ignore_errors=True)
            elif unused and done.suffix == ".lock" and not done.with_suffix("").is_dir():
                done.unlink()


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
