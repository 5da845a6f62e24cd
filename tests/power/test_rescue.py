# SPDX-License-Identifier: GPL-3.0-or-later
"""The power fails in an update and the primary is gone: the DPSR disk comes up by itself.

GRUB starts the rescue system, which takes the update back and goes on into the copy. Nobody
presses a key.
"""

import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from core.run import run
from images import cache
from images.guest import Guest
from images.recipe import Recipe
from images.vm import DiskSpec, Firmware
from tests.support import checks, disk_image, facts, oracle_disk, scenario
from tests.support.checks import none_of
from tests.support.scenario import DPSR, Story

pytestmark = pytest.mark.timeout(1800)

REPAIRING = "The last backup was interrupted"
REPAIRED = "the copy is complete again"
READY = "ready"
LONGEST = 45.0
"""Seconds; an update takes about as long here."""
SMALL = 2


@dataclass(slots=True)
class Bench:
    """A machine that is kept just before an update, and what its DPSR disk held then."""

    story: Story
    guest: Guest
    disks: list[DiskSpec]
    before: Path
    """Raw image."""

    def begin(self) -> None:
        """Everything as it was before the update."""
        self.guest.pull_power(kill=True)
        self.guest.disks = list(self.disks)
        self.guest.load = READY
        self.guest.power_on()

    def cut(self) -> Path:
        """Pull the plug; the DPSR disk is kept as it is then (qcow2)."""
        self.guest.pull_power(kill=True)
        path = self.story.folder / "cut.qcow2"
        run("cp", "--reflink=auto", "--sparse=auto", str(self.story.dpsr), str(path))
        return path

    def own(self, image: Path, name: str) -> DiskSpec:
        """A DPSR disk in the bay where it was, in a file of its own."""
        path = image.with_name(f"{name}.qcow2")
        run("cp", "--reflink=auto", "--sparse=auto", str(image), str(path))
        return replace(self.story.spec(), path=path, overlay=False, cache="writeback")

    def state(self, image: Path) -> tuple[str, int]:
        state = oracle_disk.read_state(image, disk_image.table(image))
        return state["state"], int(state["gen"])

    def differing(self, image: Path) -> list[str]:
        """Where the slots are not as they were before the update."""
        return [
            f"byte {at} of the disk, in {part.name}, differs"
            for part in disk_image.table(self.before).parts
            if part.name.startswith("dpsr-slot-")
            for at in [checks.first_difference(self.before, image, part.start, part.end, fat=False)]
            if at is not None
        ]


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with cache.scratch() as folder:
        story = scenario.new_story(Recipe(13, "uefi", "gpt", bus="scsi"), folder, "scsi")
        with scenario.working(story.sample, [scenario.own(story)]) as guest:
            scenario.settings(guest)
            guest.sh("mkdir -p /srv/data; cd /srv/data; for i in $(seq 60); do "
                     "head -c $((i * 1000)) /dev/urandom > file-$i; done")  # fmt: skip
            said = scenario.dpsr(guest, "prepare", DPSR, "--yes")
            assert said.status == 0, said.err
            assert "no rescue system" not in said.err, said.err
            guest.sh("cd /srv/data; head -c 24000000 /dev/urandom > new; rm file-1*; sync")
            before = scenario.picture(story, guest, "first")
            guest.savevm(READY)
            guest.pull_power()
            disks = [replace(spec, cache="writeback") for spec in guest.disks]
            yield Bench(story, guest, disks, before)


@pytest.fixture(scope="module")
def wreck(bench: Bench) -> Path:
    """The DPSR disk (qcow2) after the power failed in the middle of the update."""
    bench.begin()
    scenario.hold(bench.guest, "fixed")
    job = scenario.start(bench.guest, "update")
    scenario.wait_for(bench.guest, job, "fixed")
    return bench.cut().rename(bench.story.folder / "wreck.qcow2")


def machine(disk: DiskSpec, firmware: Firmware, bench: Bench) -> Guest:
    """A machine that has the DPSR disk alone."""
    return Guest([disk], firmware, kernel=bench.story.sample.kernel)


def comes_up(bench: Bench, guest: Guest) -> None:
    """It repairs itself, and the system that starts is the copy as it was before the update."""
    guest.console.expect(REPAIRED, timeout=300)
    with scenario.halted(guest):
        image = disk_image.raw(guest.file_of(DPSR), bench.story.folder / "repaired.raw")
    none_of(bench.differing(image))
    assert bench.state(image) == ("clean", 1)
    image.unlink()
    guest.wait_up(600)
    none_of(checks.copy_faults(bench.story, facts.ask(guest)))
    assert guest.sh("ls /srv/data | wc -l") == "60\n"
    assert "RUNNING FROM THE DPSR DISK" in scenario.dpsr(guest, "status").out


@pytest.mark.parametrize("firmware", ["uefi", "bios"])
def test_alone_it_repairs_itself_and_starts(bench: Bench, wreck: Path, firmware: Firmware) -> None:
    disk = bench.own(wreck, f"alone-{firmware}")
    with machine(disk, firmware, bench) as guest:
        guest.console.expect(REPAIRING, timeout=300)
        comes_up(bench, guest)
        assert "Trying another way" not in guest.said
        guest.poweroff()
    with machine(disk, firmware, bench) as guest:  # from now on it starts straight away
        guest.wait_up(600)
        assert REPAIRING not in guest.said


def test_cut_off_while_it_repairs_itself(bench: Bench, wreck: Path) -> None:
    disk = bench.own(wreck, "again")
    with machine(disk, "bios", bench) as guest:
        guest.console.expect(REPAIRING, timeout=300)
        guest.pull_power(kill=True)
    with machine(disk, "bios", bench) as guest:
        comes_up(bench, guest)


def random_cut(bench: Bench, seed: int) -> str:
    """Cut the power at any moment of an update; the DPSR disk alone comes up. Returns how."""
    dice = random.Random(seed)
    bench.begin()
    job = scenario.start(bench.guest, "update")
    deadline = time.monotonic() + dice.uniform(0.5, LONGEST)
    while time.monotonic() < deadline and job.poll() is None:
        time.sleep(0.05)
    disk = bench.own(bench.cut(), "random")
    image = disk_image.raw(disk.path, bench.story.folder / "cut.raw")
    state, generation = bench.state(image)
    if generation == 1 and state == "clean":
        none_of(bench.differing(image))
    image.unlink()
    with machine(disk, dice.choice(("uefi", "bios")), bench) as guest:
        if state == "updating":
            comes_up(bench, guest)
        else:
            guest.wait_up(600)
            assert REPAIRING not in guest.said
            none_of(checks.copy_faults(bench.story, facts.ask(guest)))
            assert guest.sh("test -e /srv/data/new && echo yes || :").strip() == (
                "yes" if generation == 2 else ""
            )
    return f"{state} {generation}"


@pytest.mark.parametrize(
    "seed",
    [pytest.param(seed, marks=() if seed < SMALL else pytest.mark.full) for seed in range(10)],
)
def test_cut_off_at_any_moment(bench: Bench, seed: int) -> None:
    sys.stdout.write(f"{random_cut(bench, seed)}\n")


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_cut_off_a_hundred_times(bench: Bench) -> None:
    found = Counter(random_cut(bench, seed) for seed in range(100, 200))
    sys.stdout.write(f"{found}\n")
    assert found["updating 1"]
