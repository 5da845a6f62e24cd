# SPDX-License-Identifier: GPL-3.0-or-later
"""A moment without writes is waited for, but not for ever."""

from dataclasses import dataclass, field

from builder.still.quiet import wait_until_quiet


@dataclass
class Machine:
    """Writes at certain times; time passes only while somebody sleeps."""

    writes: dict[str, list[float]]
    now: float = 100.0
    polls: int = 0
    slept: list[float] = field(default_factory=list)

    def poll(self) -> None:
        self.polls += 1

    def last_write(self, name: str) -> float:
        return max((at for at in self.writes[name] if at <= self.now), default=100.0)

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.slept.append(seconds)
        self.now += seconds


def wait(
    machine: Machine, *, quiet_for: float = 5, deadline: float = 160, busy: bool = False
) -> bool:
    return wait_until_quiet(
        machine, list(machine.writes), quiet_for, deadline, lambda: busy,
        clock=machine.clock, sleep=machine.sleep,
    )  # fmt: skip


def test_all_volumes_must_be_quiet_at_once() -> None:
    machine = Machine({"root": [101.0], "home": [104.0, 107.5]})
    assert wait(machine)
    assert 112.5 <= machine.now < 112.7
    assert machine.polls > 10


def test_no_longer_than_the_deadline() -> None:
    machine = Machine({"root": [100 + second / 2 for second in range(1000)]})
    assert not wait(machine)
    assert 160 <= machine.now < 160.1


def test_other_work_comes_first() -> None:
    machine = Machine({"root": []})
    assert not wait(machine, busy=True)
    assert machine.slept == []


def test_nothing_to_wait_for() -> None:
    machine = Machine({"root": []})
    assert wait(machine, quiet_for=0, deadline=0)
    assert machine.slept == []
