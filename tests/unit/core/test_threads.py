# SPDX-License-Identifier: GPL-3.0-or-later
"""A pool knows all its threads from the beginning, whatever arrives while they start."""

import os
import signal
import threading
import time
from typing import Any

import pytest

from core.signals import Ended, unwinding
from core.threads import started


def test_all_threads_run_before_the_first_job() -> None:
    with started(4, "some") as pool:
        before = set(pool._threads)
        assert len(before) == 4
        jobs = [pool.submit(threading.current_thread) for _ in range(40)]
        assert {job.result() for job in jobs} <= before
        assert pool._threads == before


def test_a_signal_while_they_start_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    real = threading.Thread.start
    begun = []

    def start(self: threading.Thread) -> None:
        real(self)
        begun.append(self)
        os.kill(os.getpid(), signal.SIGTERM)

    def interrupted() -> None:
        with unwinding():
            started(4, "some")

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(Ended):
        interrupted()
    assert len(begun) == 4


def test_a_signal_at_the_first_job_leaves_no_writer_behind() -> None:
    """The signal comes from a thread of the pool: so the pool's own end is being raced."""
    for _ in range(20):
        done: list[float] = []
        left = one_race(done)
        assert done
        assert done[0] <= left


def one_race(done: list[float]) -> float:
    def job() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)
        done.append(time.monotonic())

    def interrupted(pool: Any) -> None:
        with unwinding(), pool:
            pool.submit(job)
            time.sleep(10)

    with pytest.raises(Ended):
        interrupted(started(4, "some"))
    return time.monotonic()
