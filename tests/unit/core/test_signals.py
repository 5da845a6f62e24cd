# SPDX-License-Identifier: GPL-3.0-or-later
"""Signals that ask us to end unwind, and wait where they must."""

import os
import signal
import threading
import time

import pytest

from core.signals import Ended, deferred, unwinding


def test_a_signal_raises() -> None:
    with pytest.raises(Ended), unwinding():
        os.kill(os.getpid(), signal.SIGTERM)


def test_a_signal_waits_for_the_end_of_the_block_even_when_other_threads_would_take_it() -> None:
    done = []
    stop = threading.Event()
    other = threading.Thread(target=stop.wait)
    other.start()

    def interrupted() -> None:
        with unwinding(), deferred():
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(0.02)
            done.append("all of it")

    with pytest.raises(Ended) as ended:
        interrupted()
    stop.set()
    other.join()
    assert done == ["all of it"]
    assert ended.value.signum == signal.SIGHUP


def test_after_the_block_signals_end_us_as_before() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with deferred():
        pass
    assert signal.getsignal(signal.SIGTERM) == before
