# SPDX-License-Identifier: GPL-3.0-or-later
"""The power fails at every flush of a real guest's backups, and within, with anything lost.

QEMU records what the guest writes to its DPSR disk; all else happens here, on what was recorded.
"""

import contextlib
import json
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from core import namespace
from core.errors import ToolError
from core.run import run
from images import cache
from images.vm import MIB, DiskSpec
from tests.support import checks, facts, recording, scenario
from tests.support.checks import none_of
from tests.support.flush_cuts import Cuts, Job, digest_of
from tests.support.flush_log import Window
from tests.support.power_cut import Write, surviving
from tests.support.recorded_disk import RecordedDisk
from tests.support.recording import Recording
from tests.support.scenario import DPSR, PRIMARY, Story

pytestmark = pytest.mark.timeout(1800)

SMALL: Final = {"update": recording.updated, "rollback": recording.rolled_back}
LONG: Final = {
    "second": recording.rewritten,
    "killed": recording.killed,
    "pruned": recording.pruned,
    "back": recording.rolled_back,
}
SEED: Final = 1


@contextlib.contextmanager
def room() -> Iterator[Path]:
    """Some hundred MiB, in memory where there is enough of it."""
    memory = Path("/dev/shm")
    free = os.statvfs(memory) if memory.is_dir() else None
    if free is not None and free.f_bavail * free.f_frsize > 2048 * MIB:
        with tempfile.TemporaryDirectory(dir=memory) as folder:
            yield Path(folder)
    else:
        with cache.scratch() as folder:
            yield folder


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(namespace, "RUNTIME", tmp_path)


@pytest.fixture(scope="module")
def small() -> Iterator[Recording]:
    with cache.scratch() as folder:
        yield recording.record(folder, SMALL)


@pytest.fixture(scope="module")
def long() -> Iterator[Recording]:
    with cache.scratch() as folder:
        yield recording.record(folder, LONG)


def disk_before(found: Recording, folder: Path) -> RecordedDisk:
    """The disk before the first job."""
    folder.mkdir()
    writes = [
        write for job in found.jobs for window in found.windows(job) for write in window.writes
    ]
    return RecordedDisk.make(folder, found.base, writes)


def jobs_of(cuts: Cuts, found: Recording) -> dict[str, Job]:
    """Go through all jobs once, without any cut; what the disk held before and after each."""
    jobs = {}
    before = cuts.learn()
    for name in found.jobs:
        windows = found.windows(name)
        whole: dict[str, set[bytes]] = {}
        for writes in ((), *(window.writes for window in windows)):
            cuts.disk.keep(writes)
            for slot in cuts.disk.slots.values():
                if (content := slot.kept_as_ext4) is not None:
                    whole.setdefault(slot.part.name, set()).add(digest_of(content))
        # The two generations, and what an update had ended to write that never counted.
        assert {len(each) for each in whole.values()} <= ({1, 3} if name == "killed" else {1, 2})
        after = cuts.learn()
        known = {each.generation: each.content for each in (before, after)}
        links = {each.generation: each.links for each in (before, after)}
        if name == "pruned":
            links[before.generation] -= 1
        jobs[name] = Job(windows, known, links, whole)
        before = after
    return jobs


def cut_everywhere(found: Recording, seed: int, rounds: int, twice: float) -> Cuts:
    """Fails with what was lost."""
    with room() as folder:
        cuts = Cuts(disk_before(found, folder / "first"), random.Random(seed), rounds, twice)
        jobs = jobs_of(cuts, found)
        shutil.rmtree(folder / "first")
        cuts.disk = disk_before(found, folder / "second")
        for name, job in jobs.items():
            assert cuts.everywhere(job) == set(job.known), name
        none_of([
            f"{region.part.name} was written to at {places}"
            for region in cuts.disk.slots.values()
            if (places := region.strange())
        ])  # fmt: skip
    sys.stdout.write(f"{cuts.checks} cuts: {dict(cuts.seen)}\n")
    return cuts


def test_a_cut_at_every_flush_loses_nothing(small: Recording) -> None:
    cuts = cut_everywhere(small, SEED, rounds=1, twice=0.2)
    assert cuts.checks > 300
    for what in ("cut updating", "cut rolling-back", "recovery cut", "control partition"):
        assert cuts.seen[what] > 5, what


@pytest.mark.full
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(2))
def test_many_cuts(small: Recording, seed: int) -> None:
    cut_everywhere(small, 100 + seed, rounds=5, twice=0.4)


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_killed_pruned_and_back(long: Recording) -> None:
    cuts = cut_everywhere(long, SEED, rounds=2, twice=0.2)
    assert cuts.checks > 300


# --- a disk that lies: what it said was flushed is lost ------------------------------------------


def lied_to(found: Recording, seed: int, step: int) -> Counter[str]:
    """At each `step`th flush of an update one of the last five was a lie; what came of it."""
    seen: Counter[str] = Counter()
    dice = random.Random(seed)
    with room() as folder:
        cuts = Cuts(disk_before(found, folder / "first"), dice, 1, 0)
        job = next(iter(jobs_of(cuts, found).values()))
        shutil.rmtree(folder / "first")
        cuts.disk = disk_before(found, folder / "second")
        recent: list[Window] = []
        for number, window in enumerate(job.windows):
            recent.append(window)
            if len(recent) > 5:
                cuts.disk.keep(recent.pop(0).writes)
            if number % step == 0:
                lost = dice.choice((max(recent, key=size_of), dice.choice(recent)))
                kept = [write for each in recent if each is not lost for write in each.writes]
                seen[outcome(cuts, job, kept)] += 1
    sys.stdout.write(f"a lying disk: {dict(seen)}\n")
    return seen


def size_of(window: Window) -> int:
    return sum(len(write.data) for write in window.writes)


def outcome(cuts: Cuts, job: Job, kept: list[Write]) -> str:
    try:
        cuts.once(job, kept)
    except ToolError as reason:
        return type(reason).__name__
    except AssertionError:
        return "wrong"
    return "right"


def test_a_flush_that_was_a_lie_is_seen(small: Recording) -> None:
    """By the checks here, or by recovery; else they would prove nothing."""
    seen = lied_to(small, SEED, step=3)
    assert seen.total() > seen["right"]


@pytest.mark.full
@pytest.mark.parametrize("seed", range(3))
def test_a_disk_that_lies_ends_in_a_sentence(small: Recording, seed: int) -> None:
    """Whatever it did, recovery ends, or says why it cannot; some of it can be told."""
    seen = lied_to(small, 10 + seed, step=1)
    assert seen["right"]
    assert seen.total() > seen["right"] + seen["wrong"]


# --- the primary starts beside it -----------------------------------------------------------------


def written_so_far(found: Recording, job: str, share: float, folder: Path) -> Path:
    """The disk (raw) as it is when the power fails there, what was not flushed in part."""
    path = folder / "cut.raw"
    run("cp", "--reflink=auto", "--sparse=always", str(found.base), str(path))
    windows: list[Window] = []
    for name in found.jobs:
        these = found.windows(name)
        if name == job:
            windows += these[: round(share * (len(these) - 1)) + 1]
            break
        windows += these
    loose = surviving(windows[-1].writes, "some", random.Random(SEED))
    with open(path, "r+b") as stream:
        for write in (*(write for each in windows[:-1] for write in each.writes), *loose):
            stream.seek(write.offset)
            stream.write(write.data)
    return path


@pytest.mark.full
@pytest.mark.parametrize(("job", "share"), [("update", 0.3), ("update", 0.6), ("rollback", 0.4)])
def test_the_primary_starts_beside_it_and_heals_it(
    small: Recording, job: str, share: float, tmp_path: Path
) -> None:
    story = small.story
    with cache.scratch() as folder:
        cut = written_so_far(small, job, share, folder)
        there = Story(story.sample, folder, "scsi")
        specs = [
            DiskSpec(small.primary, story.recipe.bus, PRIMARY, format="qcow2"),
            replace(there.spec(), path=cut, format="raw"),
        ]
        with scenario.started(there, specs, story.recipe.firmware, story.vars) as guest:
            seen = facts.ask(guest)
            none_of(checks.primary_faults(there, seen))
            old = there.old_names()
            none_of([f"{block['path']} has the UUID {block['uuid']}" for block in seen.blocks
                     if block["uuid"] in old and seen.disk_of(block["path"]) == DPSR])  # fmt: skip
            said = scenario.dpsr(guest, "status")
            assert said.status in {0, 71}, said.err
            assert said.status == 0 or "interrupted" in said.out, said.out
            said = scenario.run_kept(there, guest, "update")
            assert said.status == 0, f"{said.status}: {said.out}{said.err}"
            generation = json.loads(scenario.dpsr(guest, "status", "--json").out)["generation"]
            scenario.picture(there, guest, "dpsr-1")
            verdict = scenario.judge(there, generation)
            assert verdict, str(verdict)
