# SPDX-License-Identifier: GPL-3.0-or-later
"""The DPSR disk fails in the middle of `dpsr update`, in a guest, by QEMU's blkdebug.

One machine for all: it is kept (savevm) with changes that wait for its second backup.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from images import cache
from images.guest import Guest
from images.job import Result
from images.recipe import Recipe
from images.vm import DiskSpec
from tests.support import checks, disk_image, oracle_disk, scenario
from tests.support.checks import none_of
from tests.support.faulty_in_qemu import Rule, failing, failing_at, requests
from tests.support.scenario import DPSR, Story

pytestmark = pytest.mark.timeout(1200)

RECIPE: Final = Recipe(13, "uefi", "gpt", bus="scsi")
READY: Final = "ready"

CHANGE: Final = """
cd /srv/data; head -c 3000000 /dev/urandom > new; rm file-1*; mv file-20 renamed
dd if=/dev/urandom of=file-90 bs=4096 count=10 conv=notrunc status=none; sync
"""


@dataclass(frozen=True, slots=True)
class Fault:
    """Where the program stands when the disk begins to fail, and how that ought to end."""

    point: str
    rule: Rule | None
    """None: it is pulled out."""
    code: int | tuple[int, int]
    """Two where either request may be the first to fail."""
    says: str
    holds: str = "as before; it starts"
    small: bool = False


ALL: Final = Rule(("read", "write", "flush"), once=False)
KEPT: Final = "does not keep|cannot be written"
"""By which sync the error is met first; the vault's journal has some of its own."""
LATER: Final = "does that first"
EITHER: Final = "whichever it says, it is complete"
"""The commit was tried, and nobody can be asked whether it took."""

FAULTS: Final = {
    "a read fails": Fault("updating", Rule(("read",)), 52, "cannot be read at byte", small=True),
    "a write fails": Fault("destroyed", Rule(("write",)), 53, "cannot be written", small=True),
    "a flush fails": Fault("written", Rule(("flush",)), 53, KEPT, small=True),
    "it is pulled out": Fault("overwritten", None, 69, "went away", LATER, small=True),
    "it is pulled out late": Fault("manifest-written", None, 69, "went away", EITHER),
    "the state cannot be written": Fault("undo-created", Rule(("write",)), 60, "state block"),
    "the commit cannot be written": Fault("manifest-written", Rule(("write",)), 60, "state block"),
    "the commit is not kept": Fault("manifest-written", Rule(("flush",)), 60, "state block"),
    "nothing works any more": Fault("destroyed", ALL, (52, 53), "cannot be (read|written)", LATER),
    "nothing can be read": Fault(
        "updating", Rule(("read",), once=False), 52, "cannot be read", "cannot be told"
    ),
}


@dataclass(slots=True)
class Bench:
    """The machine, and the DPSR disk as its first backup left it."""

    story: Story
    guest: Guest
    disks: list[DiskSpec]
    before: Path
    """Raw image."""

    def begin(self) -> None:
        """Everything as it was before the update."""
        self.guest.pull_power(kill=True)
        for path in self.story.folder.glob("*.raw"):
            if path not in {self.before, self.story.raw("before")}:
                path.unlink()
        self.guest.disks = list(self.disks)
        self.guest.load = READY
        self.guest.power_on()

    def state(self) -> tuple[str, int]:
        """What the disk says now; `clean` and 1: and that it is so."""
        image = scenario.picture(self.story, self.guest, "now")
        table = disk_image.table(image)
        state = oracle_disk.read_state(image, table)
        if (state["state"], state["gen"]) == ("clean", "1"):
            none_of(
                [
                    f"byte {at} of the disk, in {part.name}, differs"
                    for part in disk_image.table(self.before).parts
                    if part.name not in {"dpsr-vault", "dpsr-control"}
                    for at in [
                        checks.first_difference(self.before, image, part.start, part.end, fat=False)
                    ]
                    if at is not None
                ]
            )
        return state["state"], int(state["gen"])

    def heals(self, generation: int, *, chained: bool = True) -> None:
        """The next update ends well, its copy is right, and so is what people are told."""
        said = scenario.run_kept(self.story, self.guest, "update")
        assert said.status == 0, f"{said.status}: {said.out}{said.err}"
        assert scenario.left_behind(self.guest) == {}
        scenario.picture(self.story, self.guest, f"dpsr-{len(self.story.frozen)}")
        verdict = scenario.judge(self.story, generation, chained=chained)
        assert verdict, str(verdict)
        status = scenario.dpsr(self.guest, "status", "--json")
        assert status.status == 0, f"{status.out}{status.err}"
        assert json.loads(status.out)["generation"] == generation


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with cache.scratch() as folder:
        story = scenario.new_story(RECIPE, folder, "virtio")
        with scenario.working(story.sample, [scenario.own(story)]) as guest:
            scenario.settings(guest)
            guest.sh("mkdir -p /srv/data; cd /srv/data; for i in $(seq 100); do "
                     "head -c $((i * 1000)) /dev/urandom > file-$i; done")  # fmt: skip
            said = scenario.dpsr(guest, "prepare", DPSR, "--yes")
            assert said.status == 0, said.err
            guest.sh(CHANGE)
            before = scenario.picture(story, guest, "first")
            guest.savevm(READY)
            guest.pull_power()
            yield Bench(story, guest, list(guest.disks), before)


def fail(bench: Bench, fault: Fault) -> Result:
    """An update during which the disk fails; it is well again afterwards."""
    guest = bench.guest
    scenario.hold(guest, fault.point)
    job = scenario.start(guest, "update")
    scenario.wait_for(guest, job, fault.point)
    with failing(guest, DPSR, fault.rule) if fault.rule else nullcontext():
        if not fault.rule:
            guest.unplug(DPSR)
        scenario.let_go(guest, fault.point)
        said = job.wait(scenario.PATIENCE, ok=None)
    if not fault.rule:
        guest.plug(scenario.own(bench.story))
        guest.wait_disk(DPSR)
    return said


@pytest.mark.parametrize(
    "what",
    [pytest.param(name, marks=() if FAULTS[name].small else pytest.mark.full) for name in FAULTS],
)
def test_a_failing_disk_is_told_and_the_next_update_heals(bench: Bench, what: str) -> None:
    fault = FAULTS[what]
    bench.begin()
    said = fail(bench, fault)
    codes = fault.code if isinstance(fault.code, tuple) else (fault.code,)
    assert said.status in codes, f"{said.status}: {said.out}{said.err}"
    assert re.search(fault.says, said.err), said.err
    assert "Traceback" not in said.err
    assert ("smartctl -a" if fault.rule else "Look at its cable") in said.err, said.err
    assert fault.holds in said.err, said.err
    assert scenario.left_behind(bench.guest) == {}
    state = ("clean" if fault.holds == FAULTS["a read fails"].holds else "updating", 1)
    assert bench.state() == state
    bench.heals(2)


@pytest.mark.full
@pytest.mark.parametrize(
    ("source", "says"),
    [("/dev/urandom", "is damaged"), ("/dev/zero", "lost writes that it had confirmed")],
)
def test_a_superblock_that_is_gone_is_not_taken_for_work(
    bench: Bench, source: str, says: str
) -> None:
    bench.begin()
    guest = bench.guest
    slot = disk_image.table(bench.before).named("dpsr-slot-root")
    disk = guest.wait_disk(DPSR)
    guest.sh(f"dd if={source} of={disk} bs=1024 count=1 seek={slot.start // 1024 + 1} conv=fsync")
    bench.heals(2, chained=False)  # what the undo logs lead to is not on the disk any more
    assert says in bench.story.said.err
    assert "which heals the copy" in bench.story.said.err


def chosen(count: int) -> range:
    """DPSR_REQUESTS: `first-last`, or `first-last/step`; else all of them."""
    first, last, step = re.fullmatch(
        r"(\d+)-(\d+)(?:/(\d+))?", os.environ.get("DPSR_REQUESTS", f"1-{count}")
    ).groups()  # type: ignore[union-attr]
    return range(int(first), min(int(last), count) + 1, int(step or 1))


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_every_request_fails_once(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.begin()
    before = requests(bench.guest, DPSR)
    assert scenario.dpsr(bench.guest, "update").status == 0
    count = requests(bench.guest, DPSR) - before
    ends: Counter[int] = Counter()
    for number in chosen(count):
        bench.begin()
        with failing_at(bench.guest, DPSR, number):
            said = scenario.dpsr(bench.guest, "update")
        assert said.status == 0 or said.status in range(50, 70), f"{number}: {said}"
        assert "Traceback" not in said.err, f"{number}: {said}"
        ends[said.status] += 1
        state = bench.state()
        assert state in {("clean", 1), ("clean", 2), ("updating", 1)}, f"{number}: {said}"
        if said.status == 0 or "a complete new copy" in said.err:
            assert state == ("clean", 2), f"{number}: {said}"
        elif "as before; it starts" in said.err:
            assert state == ("clean", 1), f"{number}: {said}"
        bench.heals(state[1] + 1)
        with capsys.disabled():
            print(f"request {number} of {count}: {said.status}, {state}", flush=True)  # noqa: T201
    with capsys.disabled():
        print(f"of {count} requests {ends.total()} failed once: {dict(ends)}")  # noqa: T201
