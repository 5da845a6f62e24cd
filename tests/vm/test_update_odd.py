# SPDX-License-Identifier: GPL-3.0-or-later
"""Updates of a machine on which odd things happen between two backups, and during one.

Root and a data volume; each test goes on where the one before ended.
"""

import time
from collections.abc import Iterator
from typing import Final

import pytest

from images.guest import Guest
from images.job import Job
from images.recipe import Recipe
from tests.support import scenario, updates
from tests.support.scenario import POINTS, Story
from tests.support.updates import DATA, ended, generations, history, holds, is_right, unlike, update

pytestmark = [pytest.mark.full, pytest.mark.timeout(2400)]

SAID: Final = "/run/said"
TOPS: Final = f"for top in {DATA} /srv; do mkdir -p $top/odd; cd $top/odd\n"
"""What follows is done on both volumes."""

FILL: Final = f"""
{TOPS}
for i in $(seq 30); do head -c 300000 /dev/urandom > $i; done
for i in $(seq 40); do for n in 1 2; do head -c 4096 /dev/urandom >> woven-$n; sync woven-$n
done; done
done; sync
"""
IN_PLACE: Final = f"""
{TOPS}
for i in $(seq 30); do
echo in place | dd of=$i bs=1 seek=$((i * 9000)) conv=notrunc status=none; done
touch -d '2001-01-01' 1 2; mv 3 moved; rm 4; head -c 100000 /dev/urandom > later-$(date +%s); done
"""
MAP: Final = """
import mmap
for number in range(5, 11):
    with open(str(number), "r+b") as file, mmap.mmap(file.fileno(), 0) as view:
        view[123_456] ^= 255
"""
CHANGES: Final = {
    "mapped": f"python3 -c '{MAP}'",
    "reserved": "for i in 11 12; do fallocate -l 2M $i; done; "
    "echo inside | dd of=11 bs=1 seek=1500000 conv=notrunc status=none",
    "holes": "fallocate -p -o 8192 -l 70000 13; fallocate -z -o 5000 -l 40000 14; "
    "fallocate -c -o 4096 -l 8192 15; truncate -s 1000 16",
    "defragmented": "e4defrag -v woven-1 | grep -q Success",
    "inodes that are used again": "stat -c %i 17 18 19 20 | sort > /run/old; rm 17 18 19 20; "
    "for i in 1 2 3 4; do head -c 280000 /dev/urandom > again-$i; done; "
    "stat -c %i again-* | sort | comm -12 - /run/old | grep -q .",
}


@pytest.fixture(scope="module", params=[13, 12])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[Story, Guest]]:
    recipe = Recipe(request.param, "uefi", "gpt", bus="scsi")
    with updates.prepared(recipe, FILL) as pair:
        yield pair


@pytest.fixture
def story(pair: tuple[Story, Guest]) -> Story:
    return pair[0]


@pytest.fixture
def guest(pair: tuple[Story, Guest]) -> Guest:
    return pair[1]


# --- between two backups --------------------------------------------------------------------------


@pytest.mark.full
def test_a_clock_that_is_set_back(story: Story, guest: Guest) -> None:
    now = int(guest.sh("date +%s"))
    for clock in (now - 86_400, now - 366 * 86_400):
        guest.sh(f"date -s @{clock}; {IN_PLACE}")
        is_right(story, guest)
        assert history(guest)[0]["detector"] == "ext4"
    guest.sh(f"date -s @{now}; {IN_PLACE}")
    is_right(story, guest)


@pytest.mark.parametrize("what", CHANGES)
def test_what_leaves_odd_traces_or_none(story: Story, guest: Guest, what: str) -> None:
    """With time stamps that stay in memory for a day."""
    for top in (DATA, "/"):
        guest.sh(f"mount -o remount,lazytime {top}")
    guest.sh(f"{TOPS} {CHANGES[what]}; done", timeout=120)
    is_right(story, guest)
    assert history(guest)[0]["detector"] == "ext4"


def test_a_volume_that_was_repaired(story: Story, guest: Guest) -> None:
    """Its tables were written from below: files without an inode, folders packed anew."""
    guest.sh(f"""
        part=$(findmnt -no SOURCE {DATA}); mkdir {DATA}/many; cd {DATA}/many
        for i in $(seq 900); do : > file-with-a-long-name-$i; done; rm *5*; cd /
        umount {DATA}; debugfs -w -R 'clri /odd/25' $part
        status=0; e2fsck -fyD $part || status=$?; test $status = 1; mount {DATA}
    """)
    said = is_right(story, guest)
    assert "root: changes are told by its inode tables" in said.err, said.err
    assert "srv-data: all of it is compared, since" in said.err, said.err
    guest.sh(IN_PLACE)
    is_right(story, guest)
    assert history(guest)[0]["detector"] == "ext4"


def test_a_volume_that_grows(story: Story, guest: Guest) -> None:
    """While it is copied: that run goes back. Between two runs: all of it is compared."""
    part = guest.sh(f"findmnt -no SOURCE {DATA}").strip()
    guest.sh(IN_PLACE)
    before = scenario.picture(story, guest, "before-grown")
    job = stopped_at(guest, "pass-done")
    guest.sh(f"resize2fs {part} 112M")
    scenario.let_go(guest, "pass-done")
    said = ended(guest, job.wait(scenario.PATIENCE, ok=None), 50)
    assert f"The file system at {DATA} was resized meanwhile." in said.err, said.err
    assert unlike(before, scenario.picture(story, guest, "grown")) == []

    is_right(story, guest)
    guest.sh(f"resize2fs {part}; head -c 8M /dev/urandom > {DATA}/more")
    said = is_right(story, guest)
    assert "since its size or shape changed since the last backup" in said.err, said.err


# --- another agent freezes, or thaws --------------------------------------------------------------


def stopped_at(guest: Guest, point: str) -> Job:
    """An update that stands at a point; what it says goes to a file in memory."""
    scenario.hold(guest, point)
    command = (
        f"DPSR_TEST_POINTS={POINTS} dpsr update 2> {SAID}; code=$?; cat {SAID} >&2; exit $code"
    )
    job = guest.start("sh", "-c", command)
    scenario.wait_for(guest, job, point)
    return job


@pytest.mark.parametrize("where", [pytest.param("/", marks=pytest.mark.full), DATA])
def test_another_agent_keeps_it_frozen_for_a_while(story: Story, guest: Guest, where: str) -> None:
    """The whole second agent runs in the guest: nothing else can be sure to get through."""
    generation = generations(guest)[0] + 1
    guest.sh(IN_PLACE)
    job = stopped_at(guest, "pass-done")
    other = guest.start(
        "sh", "-euc",
        f"fsfreeze -f {where}; until grep -q 'keeps {where} frozen' {SAID}; do sleep 0.1; done; "
        f"sleep 1; fsfreeze -u {where}",
    )  # fmt: skip
    time.sleep(1)
    scenario.let_go(guest, "pass-done")
    other.wait(120)  # it was frozen still: who thaws what is not frozen fails
    said = ended(guest, job.wait(scenario.PATIENCE, ok=None), 0)
    assert f"Another program keeps {where} frozen. Trying again." in said.err, said.err
    assert generations(guest)[0] == generation


@pytest.mark.parametrize("point", ["settled", "pass-done"])
def test_another_agent_that_never_thaws(story: Story, guest: Guest, point: str) -> None:
    guest.sh(IN_PLACE)
    before = scenario.picture(story, guest, f"before-{point}")
    job = stopped_at(guest, point)
    guest.sh(f"fsfreeze -f {DATA}")
    scenario.let_go(guest, point)
    said = job.wait(scenario.PATIENCE, ok=None)
    guest.sh(f"fsfreeze -u {DATA}")
    ended(guest, said, 54)
    assert f"Another program keeps {DATA} frozen." in said.err, said.err
    assert "Try again when no other backup runs" in said.err, said.err
    assert "as before" in said.err, said.err
    assert unlike(before, scenario.picture(story, guest, point)) == []
    update(guest, 0)


def test_another_agent_that_thaws(story: Story, guest: Guest) -> None:
    """As the guest's own agent does when the hypervisor tells it to."""
    generation = generations(guest)[0] + 1
    guest.sh(IN_PLACE)
    job = stopped_at(guest, "frozen")
    assert guest.agent.call("guest-fsfreeze-thaw") == 2
    guest.sh(f"echo after the first try > {DATA}/written-meanwhile; cd {POINTS}; "
             "rm frozen; sleep 0.3; rm frozen.reached; touch frozen")  # fmt: skip
    scenario.wait_for(guest, job, "frozen")
    scenario.keep_frozen(story, guest)
    scenario.let_go(guest, "frozen")
    said = ended(guest, job.wait(scenario.PATIENCE, ok=None), 0)
    assert " Trying again." in said.err, said.err
    assert "in the freeze" in said.err or "ended the freeze" in said.err, said.err
    holds(story, guest, generation)
