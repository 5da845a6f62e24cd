# SPDX-License-Identifier: GPL-3.0-or-later
"""A limited bandwidth is kept on the whole, and a pause is not made up for by a rush."""

from builder.copying.throttle import Throttle


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds


def test_no_limit_never_waits() -> None:
    clock = Clock()
    Throttle(0, clock=clock, sleep=clock.sleep).spend(1 << 60)
    assert clock.now == 100


def test_the_rate_is_kept() -> None:
    clock = Clock()
    throttle = Throttle(1000, clock=clock, sleep=clock.sleep)
    for _ in range(50):
        throttle.spend(200)
    assert round(clock.now, 6) == 110


def test_a_pause_is_made_up_for_a_little() -> None:
    clock = Clock()
    throttle = Throttle(1000, clock=clock, sleep=clock.sleep)
    clock.now += 60
    throttle.spend(500)
    assert clock.now == 160
    throttle.spend(1000)
    assert round(clock.now, 6) == 161
