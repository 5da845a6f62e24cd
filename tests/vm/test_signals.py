# SPDX-License-Identifier: GPL-3.0-or-later
"""Ctrl-C and SIGTERM in each phase of `prepare`, a kill inside the freeze, a second run beside it.

One disk for all: each run is ended a little later than the one before, and goes on where that one
ended. The last is left alone, and its copy is right.
"""

import time
from collections.abc import Iterator
from typing import Final

import pytest

from images import cache
from images.guest import Guest
from images.job import Job
from images.recipe import Recipe
from tests.support import disk_image, oracle_disk, scenario
from tests.support.scenario import DPSR, Story

pytestmark = pytest.mark.timeout(1800)

RECIPE: Final = Recipe(13, "uefi", "gpt", bus="scsi")
PHASES: Final = (
    ("partitioned", "INT"),
    ("bootable", "TERM"),
    ("copying", "INT"),
    ("pass-done", "TERM"),
    ("frozen", "INT"),
    ("thawed", "TERM"),
    ("copied", "INT"),
    ("fixed", "TERM"),
    ("written", "INT"),
    ("manifest", "TERM"),
)
STATUS: Final = {"INT": 130, "TERM": 143}
INTO_THE_COPY: Final = 4.0
"""Seconds of copying before the signal in the phase `copying`, which has no point of its own."""


@pytest.fixture(scope="module")
def story() -> Iterator[Story]:
    with cache.scratch() as folder:
        yield scenario.new_story(RECIPE, folder, "virtio")


@pytest.fixture(scope="module")
def guest(story: Story) -> Iterator[Guest]:
    with scenario.working(story.sample, [scenario.own(story)]) as guest:
        scenario.settings(guest)
        yield guest


def begin(guest: Guest, point: str) -> Job:
    """Start `prepare` and wait until it stands in a phase."""
    where = "bootable" if point == "copying" else point
    scenario.hold(guest, where)
    job = scenario.start(guest, "prepare", DPSR, "--yes")
    scenario.wait_for(guest, job, where)
    if point == "copying":
        scenario.let_go(guest, where)
        time.sleep(INTO_THE_COPY)
        assert job.poll() is None, f"it ended: {job.poll()}"
    return job


def kill(guest: Guest, job: Job, signal: str) -> None:
    """Send a signal to dpsr itself, as a terminal or systemd would."""
    guest.run("kill", f"-{signal}", str(job.pid))


@pytest.mark.parametrize(("point", "signal"), PHASES)
def test_ended_by_a_signal(guest: Guest, point: str, signal: str) -> None:
    job = begin(guest, point)
    kill(guest, job, signal)
    if point in {"frozen", "manifest"}:
        # These stretches are not cut in the middle: the signal arrives at their end.
        time.sleep(1)
    scenario.let_go(guest, point)
    said = job.wait(120, ok=None)
    assert said.status == STATUS[signal], f"{said.status}: {said.out}{said.err}"
    assert scenario.left_behind(guest) == {}
    assert "Traceback" not in said.err
    assert "no complete copy" in said.err, said.err


def test_killed_in_the_freeze(guest: Guest) -> None:
    """The watchdog thaws, and nobody has to do anything."""
    job = begin(guest, "frozen")
    writer = guest.start("sh", "-c", "echo > /var/tmp/while-frozen")
    time.sleep(1)
    assert writer.poll() is None, "nothing was frozen"
    kill(guest, job, "KILL")
    writer.wait(20)
    job.wait(60, ok=None)
    time.sleep(2)
    left = scenario.left_behind(guest)
    left.pop("tracing", None)  # of a process that was killed; the next one sweeps it up
    assert left == {}


def test_a_second_run_is_refused(guest: Guest) -> None:
    job = begin(guest, "bootable")
    second = scenario.dpsr(guest, "prepare", DPSR, "--yes")
    assert second.status == 26, f"{second.status}: {second.out}{second.err}"
    assert "Another dpsr is at work (dpsr prepare" in second.err
    assert "Nothing was written" in second.err
    kill(guest, job, "TERM")
    assert job.wait(120, ok=None).status == 143


def test_ended_after_the_commit_the_copy_counts(guest: Guest) -> None:
    """And whoever goes on to the end has a right copy of all those runs."""
    job = begin(guest, "committed")
    kill(guest, job, "TERM")
    scenario.let_go(guest, "committed")
    said = job.wait(120, ok=None)
    assert said.status == 143
    assert scenario.left_behind(guest) == {}
    assert "holds a complete copy" in said.err, said.err


def test_left_alone_it_ends_well(story: Story, guest: Guest) -> None:
    scenario.prepare(story, guest)
    assert story.left == {}
    verdict = scenario.judge(story)
    assert verdict, str(verdict)


def test_the_state_was_never_wrong(story: Story) -> None:
    image = story.raw("dpsr")
    assert oracle_disk.read_state(image, disk_image.table(image))["state"] == "clean"
