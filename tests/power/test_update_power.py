# SPDX-License-Identifier: GPL-3.0-or-later
"""The power fails at each named point of `dpsr update`, or the program is ended there.

One machine for all: it is kept (savevm) with changes that wait for its third backup, and goes on
from there each time. QEMU is killed, so that only what the guest flushed is on the disks.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import pytest

from core.run import run
from images import cache
from images.guest import Guest
from images.recipe import Recipe
from images.vm import MIB, DiskSpec
from tests.support import checks, disk_image, facts, oracle_disk, scenario
from tests.support.checks import none_of
from tests.support.disk_image import Part
from tests.support.scenario import DPSR, Story

pytestmark = pytest.mark.timeout(1200)

RECIPE: Final = Recipe(13, "uefi", "gpt", bus="scsi")
READY: Final = "ready"
STATUS: Final = {"INT": 130, "TERM": 143}

POINTS: Final = (
    "undo-created", "updating", "undo-synced", "destroyed", "overwritten", "pass-done", "frozen",
    "thawed", "copied", "overlaid", "edited", "fixed", "written", "sealed", "manifest-written",
    "committed",
)  # fmt: skip
SMALL: Final = {"overwritten", "committed"}
SIGNALS: Final = (
    ("overwritten", "TERM"), ("written", "INT"), ("undo-created", "INT"), ("destroyed", "TERM"),
    ("pass-done", "INT"), ("frozen", "TERM"), ("copied", "INT"), ("overlaid", "TERM"),
    ("sealed", "INT"), ("manifest-written", "TERM"),
)  # fmt: skip
SMALL_SIGNALS: Final = {"overwritten", "written"}
KILLS: Final = ("overlaid", "updating", "frozen", "manifest-written")

CHANGE: Final = """
cd /srv/data; head -c 24000000 /dev/urandom > new; rm file-1*; mv file-20 renamed
dd if=/dev/urandom of=file-90 bs=4096 count=10 conv=notrunc status=none
head -c 100000 /dev/urandom > /boot/efi/EFI/debian/note.bin; echo '# edited' >> /etc/fstab; sync
"""


def sized(names: tuple[str, ...], small: set[str]) -> list[object]:
    return [pytest.param(name, marks=() if name in small else pytest.mark.full) for name in names]


@dataclass(slots=True)
class Bench:
    """The machine, and the DPSR disk as its second backup left it."""

    story: Story
    guest: Guest
    disks: list[DiskSpec]
    before: Path
    """Raw image."""
    old: set[str]
    """Every name of the primary."""

    def begin(self) -> None:
        """Everything as it was before the update."""
        self.guest.pull_power(kill=True)
        for path in self.story.folder.glob("*.raw"):
            if path not in {self.before, self.story.raw("before")}:
                path.unlink()
        self.guest.disks = list(self.disks)
        self.guest.load = READY
        self.guest.power_on()

    def same_as_before(self, image: Path) -> list[str]:
        """Where the slots, or the control partition, differ from the second backup."""
        return [
            f"byte {at} of the disk, in {part.name}, differs"
            for part in disk_image.table(self.before).parts
            if part.name != "dpsr-vault"
            for at in [checks.first_difference(self.before, image, part.start, part.end, fat=False)]
            if at is not None
        ]

    def strangers(self, image: Path) -> list[str]:
        """Partitions of the DPSR disk that carry a name of the primary."""
        return [
            f"{part.name} is called {name}"
            for part in disk_image.table(image).parts
            for name in disk_image.probe(image, part).values()
            if name in self.old
        ]


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with cache.scratch() as folder:
        story = scenario.new_story(RECIPE, folder, "scsi")
        with scenario.working(story.sample, [scenario.own(story)]) as guest:
            scenario.settings(guest)
            guest.sh("mkdir -p /srv/data; cd /srv/data; for i in $(seq 100); do "
                     "head -c $((i * 1000)) /dev/urandom > file-$i; done")  # fmt: skip
            for arguments in (("prepare", DPSR, "--yes"), ("update",)):
                said = scenario.dpsr(guest, *arguments)
                assert said.status == 0, said.err
            guest.sh(CHANGE)
            before = scenario.picture(story, guest, "second")
            guest.savevm(READY)
            guest.pull_power()
            disks = [replace(spec, cache="writeback") for spec in guest.disks]
            yield Bench(story, guest, disks, before, story.old_names())


def state_of(image: Path) -> tuple[str, int]:
    state = oracle_disk.read_state(image, disk_image.table(image))
    return state["state"], int(state["gen"])


def replay_journal(image: Path, part: Part) -> None:
    """What the next mount does to a file system that was in use when the power failed."""
    alone = image.with_suffix(".part")
    where = f"bs={MIB}", f"count={part.size // MIB}"
    run("dd", f"if={image}", f"of={alone}", f"skip={part.start // MIB}", "conv=sparse", *where)
    run("e2fsck", "-p", str(alone), ok=(0, 1))  # with an offset it cannot replay a journal
    run("dd", f"if={alone}", f"of={image}", f"seek={part.start // MIB}", "conv=notrunc", *where)
    alone.unlink()


def in_the_end(bench: Bench, generation: int, *, interrupted: bool) -> None:
    """`dpsr update` first takes back what was interrupted, then comes to a right copy."""
    story, guest = bench.story, bench.guest
    scenario.hold(guest, "rolled-back", "frozen")
    job = scenario.start(guest, "update")
    if interrupted:
        scenario.wait_for(guest, job, "rolled-back")
        image = scenario.picture(story, guest, "recovered")
        none_of(bench.same_as_before(image))
        assert state_of(image) == ("clean", 2)
        scenario.let_go(guest, "rolled-back")
    scenario.wait_for(guest, job, "frozen")
    scenario.keep_frozen(story, guest)
    scenario.let_go(guest, "frozen")
    said = job.wait(scenario.PATIENCE, ok=None)
    assert said.status == 0, f"{said.status}: {said.out}{said.err}"
    assert ("Taking back an interrupted update" in said.err) == interrupted, said.err
    assert scenario.left_behind(guest) == {}
    scenario.picture(story, guest, f"dpsr-{len(story.frozen)}")
    verdict = scenario.judge(story, generation)
    assert verdict, str(verdict)


@pytest.mark.parametrize("point", sized(POINTS, SMALL))
def test_the_power_fails(bench: Bench, point: str) -> None:
    bench.begin()
    story, guest = bench.story, bench.guest
    scenario.hold(guest, "frozen", point)
    job = scenario.start(guest, "update")
    if POINTS.index(point) > POINTS.index("frozen"):
        scenario.wait_for(guest, job, "frozen")
        scenario.keep_frozen(story, guest)
        scenario.let_go(guest, "frozen")
    scenario.wait_for(guest, job, point)
    guest.pull_power(kill=True)

    state, generation = {"undo-created": ("clean", 2), "committed": ("clean", 3)}.get(
        point, ("updating", 2)
    )
    image = disk_image.raw(story.dpsr, story.folder / "cut.raw")
    assert state_of(image) == (state, generation)
    none_of(bench.strangers(image))
    if point == "committed":
        image = image.rename(story.folder / f"dpsr-{len(story.frozen)}.raw")
        replay_journal(image, disk_image.table(image).named("dpsr-vault"))
        verdict = scenario.judge(story, 3)
        assert verdict, str(verdict)
    elif state == "clean":
        none_of(bench.same_as_before(image))

    guest.power_on()
    guest.wait_up(600)
    seen = facts.ask(guest)
    none_of(checks.primary_faults(story, seen))
    none_of([f"{block['path']} has the UUID {block['uuid']}" for block in seen.blocks
             if block["uuid"] in bench.old and seen.disk_of(block["path"]) == DPSR])  # fmt: skip
    said = scenario.dpsr(guest, "status")
    if state == "updating":
        assert "interrupted" in said.out, said.out
    else:
        assert f"generation {generation}" in said.out, said.out
    in_the_end(bench, generation + 1, interrupted=state == "updating")


@pytest.mark.parametrize(
    ("point", "signal"),
    [
        pytest.param(*each, marks=() if each[0] in SMALL_SIGNALS else pytest.mark.full)
        for each in SIGNALS
    ],
)
def test_ended_by_a_signal_it_goes_back_at_once(bench: Bench, point: str, signal: str) -> None:
    bench.begin()
    guest = bench.guest
    scenario.hold(guest, point)
    job = scenario.start(guest, "update")
    scenario.wait_for(guest, job, point)
    guest.run("kill", f"-{signal}", str(job.pid))
    scenario.let_go(guest, point)
    said = job.wait(300, ok=None)
    assert said.status == STATUS[signal], f"{said.status}: {said.out}{said.err}"
    assert "Traceback" not in said.err
    assert "as before; it starts" in said.err, said.err
    assert scenario.left_behind(guest) == {}
    image = scenario.picture(bench.story, guest, "ended")
    assert state_of(image) == ("clean", 2)
    none_of(bench.same_as_before(image))


@pytest.mark.full
def test_ended_after_the_commit_the_new_copy_counts(bench: Bench) -> None:
    bench.begin()
    guest = bench.guest
    scenario.hold(guest, "committed")
    job = scenario.start(guest, "update")
    scenario.wait_for(guest, job, "committed")
    guest.run("kill", "-TERM", str(job.pid))
    scenario.let_go(guest, "committed")
    said = job.wait(300, ok=None)
    assert said.status == 143, f"{said.status}: {said.out}{said.err}"
    assert "holds a complete new copy" in said.err, said.err
    assert scenario.left_behind(guest) == {}
    assert state_of(scenario.picture(bench.story, guest, "ended")) == ("clean", 3)
    in_the_end(bench, 4, interrupted=False)


@pytest.mark.parametrize("point", sized(KILLS, {"overlaid"}))
def test_killed_the_next_one_takes_it_back(bench: Bench, point: str) -> None:
    bench.begin()
    guest = bench.guest
    scenario.hold(guest, point)
    job = scenario.start(guest, "update")
    scenario.wait_for(guest, job, point)
    guest.run("kill", "-KILL", str(job.pid))
    job.wait(60, ok=None)
    image = scenario.picture(bench.story, guest, "killed")
    assert state_of(image) == ("updating", 2)
    none_of(bench.strangers(image))
    in_the_end(bench, 3, interrupted=True)
