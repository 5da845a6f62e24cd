# SPDX-License-Identifier: GPL-3.0-or-later
"""Updates of a machine that writes a lot: how long its writers wait, and when it is too much.

Root and a data volume; each test goes on where the one before ended.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from images.guest import Guest
from images.job import Job
from tests.support import scenario, updates, waits
from tests.support.scenario import Story
from tests.support.updates import DATA, ended, history, holds, unlike, update

pytestmark = [pytest.mark.full, pytest.mark.timeout(2400)]

LIMIT: Final = 0.15
"""Seconds that a writer may wait for a freeze, for each volume, without KVM."""
FOLDERS: Final = ("/var/lib/waits", f"{DATA}/waits")
TRACE: Final = """
echo 0 > /sys/kernel/tracing/options/record-cmd
mkdir /sys/kernel/tracing/instances/freezes; cd /sys/kernel/tracing/instances/freezes
echo mono > trace_clock; cd events/syscalls/sys_enter_ioctl
echo 'cmd == 0xc0045877 || cmd == 0xc0045878' > filter; echo 1 > enable
"""
READ_TRACE: Final = """
cd /sys/kernel/tracing/instances/freezes; cat trace; cd ..; rmdir freezes
"""
FLOOD: Final = f"""
home=$(ls -d /sys/kernel/tracing/instances/dpsr-*); kill -STOP ${{home##*-}}
until grep -q '^overrun: [1-9]' $home/per_cpu/cpu*/stats; do
taskset 1 dd if=/dev/zero of={DATA}/flood bs=4k count=2000 oflag=direct conv=notrunc status=none
done; kill -CONT ${{home##*-}}
"""
"""Stop the program, and write until the kernel had to drop events."""
REWRITE: Final = f"""
import os
file = os.open("{DATA}/rewritten", os.O_RDWR | os.O_CREAT)
number = 0
while not os.path.exists("/run/waits.stop"):
    number += 1
    os.pwrite(file, number.to_bytes(8, "big") * 131072, number % 50 << 20)
    os.fdatasync(file)
"""
"""50 MiB in place, for ever."""


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Story, Guest]]:
    with updates.prepared() as (story, guest):
        guest.put("/run/waits.py", Path(waits.__file__).read_bytes())
        guest.sh(f"mkdir -p {' '.join(FOLDERS)}")
        yield story, guest


@pytest.fixture
def story(pair: tuple[Story, Guest]) -> Story:
    return pair[0]


@pytest.fixture
def guest(pair: tuple[Story, Guest]) -> Guest:
    return pair[1]


# --- how long writers wait ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Waits:
    """Seconds."""

    before: float
    """The longest write before the update began."""
    frozen: float
    """The longest of those that were under way in a freeze."""
    freeze: float
    """The longest freeze, from its first step to its last."""
    said: float
    """What the program says of it."""


def writing(guest: Guest) -> list[Job]:
    """Writers on both volumes that measure themselves."""
    guest.sh("rm -f /run/waits.stop /run/waits-*")
    return [
        guest.start("python3", "/run/waits.py", folder, how, f"/run/waits-{number}-{how}")
        for number, folder in enumerate(FOLDERS)
        for how in ("plain", "sqlite")
    ]


def written(guest: Guest, jobs: list[Job]) -> list[tuple[float, float]]:
    """Begin and end of all writes that took long."""
    guest.sh("touch /run/waits.stop")
    for job in jobs:
        job.wait(120)
    texts = guest.sh("for file in /run/waits-*; do cat $file; echo; done").splitlines()
    return [(begun, ended) for text in texts for begun, ended in json.loads(text)["waits"]]


def freezes(guest: Guest) -> list[tuple[float, float]]:
    """Begin of the first freeze and end of the last of those that were together."""
    asked = re.findall(r" (\d+\.\d+): sys_ioctl\(.*cmd: c004587([78])", guest.sh(READ_TRACE))
    found: list[tuple[float, float]] = []
    open_ = 0
    for when, what in ((float(when), what) for when, what in asked):
        if what == "7" and open_ == 0:
            found.append((when, when))
        open_ += 1 if what == "7" else -1
        found[-1] = (found[-1][0], when)
    assert open_ == 0, asked
    return found


def one_update(guest: Guest) -> Waits:
    guest.sh(TRACE)
    load = scenario.start_load(guest, ["/var/lib/load", f"{DATA}/load"])
    jobs = writing(guest)
    guest.sh("sleep 15")
    begun = float(guest.get("/proc/uptime").split()[0])
    update(guest, 0)
    long = written(guest, jobs)
    scenario.stop_load(guest, load)
    still = freezes(guest)
    return Waits(
        before=max((end - start for start, end in long if end < begun), default=waits.LONG),
        frozen=max(
            (
                end - start
                for start, end in long
                if any(start < last and first < end for first, last in still)
            ),
            default=waits.LONG,
        ),
        freeze=max(last - first for first, last in still),
        said=history(guest)[0]["stall_seconds"],
    )


def test_writers_wait_for_a_moment_and_it_is_told(guest: Guest) -> None:
    """SQLite commits and files change on both volumes; measured by the writers themselves."""
    seen = [one_update(guest) for _ in range(3)]
    print(*seen, sep="\n")  # noqa: T201 - what was measured
    for each in seen:
        assert each.said >= each.freeze - 0.01, seen
        assert each.frozen <= each.said + each.before + 0.1, seen
        # What a busy machine does to a write without any freeze is not the freeze's doing.
        assert each.frozen - each.before < len(FOLDERS) * LIMIT, seen


# --- when it is too much --------------------------------------------------------------------------


def test_events_that_were_lost_are_not_guessed(story: Story, guest: Guest) -> None:
    guest.sh("sed -i 's/^tracker_buffer = .*/tracker_buffer = 1/' /etc/dpsr/dpsr.toml")
    guest.sh(f"head -c 8M /dev/urandom > {DATA}/flood; sync")
    generation = history(guest)[0]["generation"] + 1
    scenario.hold(guest, "pass-done", "frozen")
    job = scenario.start(guest, "update")
    scenario.wait_for(guest, job, "pass-done")
    guest.sh(FLOOD, timeout=300)
    scenario.let_go(guest, "pass-done")
    scenario.wait_for(guest, job, "frozen")
    scenario.keep_frozen(story, guest)
    scenario.let_go(guest, "frozen")
    said = ended(guest, job.wait(scenario.PATIENCE, ok=None), 0)
    assert "Starting again with a larger buffer." in said.err, said.err
    holds(story, guest, generation)


def test_events_that_are_lost_twice_take_it_back(story: Story, guest: Guest) -> None:
    guest.sh(f"head -c 8M /dev/urandom > {DATA}/flood; sync")
    before = scenario.picture(story, guest, "before-lost")
    scenario.hold(guest, "pass-done")
    job = scenario.start(guest, "update")
    for _ in range(2):
        scenario.wait_for(guest, job, "pass-done")
        guest.sh(FLOOD + "cd /run/dpsr-points; rm pass-done; sleep 0.3; rm pass-done.reached; "
                 "touch pass-done", timeout=600)  # fmt: skip
    scenario.let_go(guest, "pass-done")
    said = ended(guest, job.wait(scenario.PATIENCE, ok=None), 56)
    assert "This was the second time." in said.err, said.err
    assert "Raise tracker_buffer in /etc/dpsr/dpsr.toml" in said.err, said.err
    assert "as before" in said.err, said.err
    assert unlike(before, scenario.picture(story, guest, "lost")) == []
    guest.sh("sed -i 's/^tracker_buffer = .*/tracker_buffer = 32/' /etc/dpsr/dpsr.toml")
    update(guest, 0)


def test_a_writer_that_is_faster_than_the_copy(story: Story, guest: Guest) -> None:
    """It is not made to wait: the run is taken back."""
    before = scenario.picture(story, guest, "before-fast")
    jobs = writing(guest)
    fast = guest.start("python3", "-c", REWRITE)
    said = scenario.dpsr(guest, "update", "--bandwidth", "5")
    long = written(guest, jobs)
    fast.wait(60)
    ended(guest, said, 55)
    assert "The system writes faster than the DPSR disk takes it" in said.err, said.err
    assert "Try again at a quieter hour" in said.err, said.err
    assert "as before" in said.err, said.err
    assert max((end - start for start, end in long), default=0.0) < 5
    assert unlike(before, scenario.picture(story, guest, "fast")) == []
    update(guest, 0)
