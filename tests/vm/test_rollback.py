# SPDX-License-Identifier: GPL-3.0-or-later
"""`dpsr rollback`: three updates, then back to the first of them, killed on the way; then forward.

Debian 13 with UEFI and GPT on SCSI, the DPSR disk on virtio. All of it in one boot of the primary:
so the next update could take the quick way, if it trusted what is on record.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from core.run import PIPE, start
from images import cache
from images.guest import Guest
from images.job import Result
from images.recipe import Recipe
from tests.support import checks, disk_image, oracle_disk, scenario
from tests.support.checks import none_of
from tests.support.oracle_disk import Verdict
from tests.support.push import ROOT
from tests.support.scenario import DPSR, Story

pytestmark = [pytest.mark.full, pytest.mark.timeout(3000)]

RECIPE: Final = Recipe(13, "uefi", "gpt", bus="scsi")
TO: Final = 2
NEWEST: Final = 4
FIRST: Final = """
mkdir -p /srv/data; cd /srv/data
for i in $(seq 100); do head -c $((i * 900)) /dev/urandom > file-$i; done
head -c 12000000 /dev/urandom > rewritten
echo 'tmpfs /mnt tmpfs size=1m 0 0' >> /etc/fstab
"""
SECOND: Final = """
cd /srv/data; rm file-1*; head -c 9000000 /dev/urandom > new; cp new /boot/efi/EFI/new.bin
dd if=/dev/urandom of=rewritten bs=4096 seek=100 count=900 conv=notrunc status=none
"""
THIRD: Final = "cd /srv/data; mv file-2 moved; chmod 600 file-30; truncate -s 100 rewritten; rm new"
AFTERWARDS: Final = "cd /srv/data; echo afterwards > file-100; head -c 3000000 /dev/urandom > last"


@dataclass(slots=True)
class Day:
    """One day; each part is good once the fixture has run."""

    story: Story
    pictures: dict[str, Path] = field(default_factory=dict)
    """The DPSR disk: after the update to generation 2, and after the way back."""
    said: dict[str, Result] = field(default_factory=dict)
    listed: dict[str, Any] = field(default_factory=dict)
    status: dict[str, dict[str, Any]] = field(default_factory=dict)
    taken: str = ""
    """Of generation 2."""
    history: list[dict[str, Any]] = field(default_factory=list)
    """After the next update."""
    back: Verdict = field(default_factory=Verdict)
    forward: Verdict = field(default_factory=Verdict)
    left: dict[str, str] = field(default_factory=dict)


def well(guest: Guest, *words: str) -> Result:
    said = scenario.dpsr(guest, *words)
    assert said.status == 0, f"{said.status}: {said.out}\n{said.err}"
    return said


def status(guest: Guest) -> dict[str, Any]:
    """However good the copy is, there is one document."""
    found: dict[str, Any] = json.loads(scenario.dpsr(guest, "status", "--json").out)
    return found


def killed_on_the_way(guest: Guest) -> None:
    scenario.hold(guest, "replay-content")
    job = scenario.start(guest, "rollback", str(TO), "--yes")
    scenario.wait_for(guest, job, "replay-content")
    guest.run("kill", "-KILL", str(job.pid))
    scenario.let_go(guest, "replay-content")
    job.wait(120, ok=None)


def against(story: Story, number: int, image: Path, generation: int) -> Verdict:
    """What the oracle says of the DPSR disk and the freeze that was kept as number `number`."""
    frozen = disk_image.raw(story.frozen[number], story.folder / f"frozen-of-{generation}.raw")
    scratch = story.folder / f"oracle-{image.stem}"
    scratch.mkdir()
    return oracle_disk.compare(frozen, image, scratch, generation)


@pytest.fixture(scope="module")
def day() -> Iterator[Day]:
    with cache.scratch() as folder:
        day = Day(story := scenario.new_story(RECIPE, folder, "virtio"))
        with scenario.working(story.sample, [scenario.own(story)]) as guest:
            scenario.settings(guest)
            well(guest, "prepare", DPSR, "--yes")
            guest.sh(FIRST, timeout=120)
            said = scenario.run_kept(story, guest, "update")
            assert said.status == 0, said.err
            day.pictures["two"] = scenario.picture(story, guest, "two")
            day.taken = status(guest)["taken"]
            for change in (SECOND, THIRD):
                guest.sh(change, timeout=120)
                well(guest, "update")

            day.listed = json.loads(well(guest, "rollback", "--json").out)
            day.said["list"] = well(guest, "rollback")
            day.said["nobody"] = scenario.dpsr(guest, "rollback", str(TO))
            day.said["none"] = scenario.dpsr(guest, "rollback", "9", "--yes")
            day.status["before"] = status(guest)
            killed_on_the_way(guest)
            day.status["killed"] = status(guest)
            day.said["back"] = well(guest, "rollback", str(TO), "--yes", "--json")
            day.status["back"] = status(guest)
            day.pictures["back"] = scenario.picture(story, guest, "back")
            day.back = against(story, 0, day.pictures["back"], TO)

            guest.sh(AFTERWARDS, timeout=120)
            said = scenario.run_kept(story, guest, "update")
            assert said.status == 0, said.err
            day.history = json.loads(well(guest, "history", "--json").out)
            day.forward = against(story, 1, scenario.picture(story, guest, "forward"), TO + 1)
            day.left = scenario.left_behind(guest)
        yield day


def test_the_list_says_what_can_be_reached(day: Day) -> None:
    reachable = {each["generation"]: each["reachable"] for each in day.listed["generations"]}
    assert reachable == {NEWEST: False, 3: True, TO: True, 1: True}
    assert "dpsr rollback 3" in day.said["list"].out


def test_refused_nothing_was_changed(day: Day) -> None:
    assert day.said["nobody"].status == 37, day.said["nobody"].err
    assert day.said["none"].status == 41, day.said["none"].err
    for refusal in ("nobody", "none"):
        assert "Nothing was" in day.said[refusal].err
    before = day.status["before"]
    assert (before["state"], before["generation"], before["healthy"]) == ("clean", NEWEST, True)


def test_killed_it_says_that_it_is_on_its_way(day: Day) -> None:
    killed = day.status["killed"]
    assert (killed["state"], killed["healthy"]) == ("rolling-back", False)


def test_it_is_gone_on_with(day: Day) -> None:
    said = day.said["back"]
    assert "Going on with the way back to generation 2" in said.err
    assert json.loads(said.out)["generation"] == TO


def test_every_slot_is_byte_for_byte_as_it_was(day: Day) -> None:
    before, after = day.pictures["two"], day.pictures["back"]
    differing = [
        f"byte {at} of {part.name}"
        for part in disk_image.table(before).parts
        if part.name.startswith("dpsr-slot-")
        for at in [checks.first_difference(before, after, part.start, part.end, fat=False)]
        if at is not None
    ]
    none_of(differing)


def test_every_used_block_is_that_of_that_freeze(day: Day) -> None:
    assert day.back, str(day.back)
    assert day.back.compared > 400 << 20, str(day.back)


def test_status_tells_the_age_of_what_the_disk_holds(day: Day) -> None:
    back = day.status["back"]
    assert (back["state"], back["generation"], back["healthy"]) == ("clean", TO, True)
    assert back["taken"] == day.taken < day.status["before"]["taken"]
    assert back["written_since_bytes"] is None


def test_it_starts(day: Day) -> None:
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from dpsr.main import main; main()"
    words = ("drill", str(day.pictures["back"]), "--firmware", "uefi", "--json")
    child = start(sys.executable, "-c", code, *words, stdout=PIPE, stderr=PIPE)
    out, err = child.communicate(timeout=900)
    answer = json.loads(out)
    assert child.returncode == 0, err
    assert (answer["passed"], answer["generation"]) == (True, TO), answer


def test_the_next_update_is_right_and_goes_by_nothing_that_is_known(day: Day) -> None:
    assert day.forward, str(day.forward)
    newest, before, *_ = day.history
    assert (newest["generation"], newest["detector"]) == (TO + 1, "compare")
    assert (before["generation"], before["taken"]) == (TO, day.taken)


def test_nothing_is_left_behind(day: Day) -> None:
    assert day.left == {}
