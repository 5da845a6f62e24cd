# SPDX-License-Identifier: GPL-3.0-or-later
"""`dpsr update` on Debian 13 with UEFI and GPT, on SCSI, the DPSR disk on NVMe.

The first backup is taken while the system writes. Then the copy is started for real and work is
done on it; then the primary goes on, and the next backups are taken.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from core.run import PIPE, start
from core.screen import moment
from images import cache, disks
from images.guest import Guest
from images.job import Result
from images.recipe import Recipe
from images.vm import DiskSpec
from tests.support import checks, disk_image, facts, oracle_disk, scenario
from tests.support.checks import none_of
from tests.support.push import ROOT
from tests.support.scenario import DPSR, PRIMARY, Story

pytestmark = pytest.mark.timeout(2400)

RECIPE: Final = Recipe(13, "uefi", "gpt", bus="scsi")
WORK: Final = "/root/work-done.txt"
MUCH: Final = 320
"""MiB: more than 30 % of what the sample uses."""

OLD: Final = """
mkdir -p /srv/data/old; cd /srv/data/old
for i in $(seq 100); do head -c $((i * 700)) /dev/urandom > file-$i; done
head -c 6000000 /dev/urandom > rewritten
head -c 6000000 /dev/urandom > cut
sync
"""
CHANGE: Final = """
cd /srv/data
head -c 24000000 /dev/urandom > big
cat /boot/vmlinuz-$(uname -r) /srv/data/big > /boot/like-a-kernel
for i in $(seq 300); do echo $i > small-$i; done
truncate -s 50M sparse; echo end >> sparse
ln -s big soft; ln big hard
rm old/file-1*; for i in $(seq 20 40); do mv old/file-$i renamed-$i; done
dd if=/dev/urandom of=old/rewritten bs=4096 seek=100 count=50 conv=notrunc status=none
truncate -s 1000000 old/cut
chmod 600 old/file-5; chown 1000:1000 old/file-6; touch -d 2001-01-01 old/file-7
head -c 200000 /dev/urandom > /boot/efi/EFI/debian/note.bin
echo 'tmpfs /mnt tmpfs size=1m 0 0' >> /etc/fstab
"""
SUMS: Final = """
{ find /srv/data /boot/like-a-kernel /boot/efi/EFI/debian/note.bin -type f | sort |
  xargs md5sum; find /srv/data -printf '%p %m %U:%G %s %y %l\\n' | sort; } 2>&1
"""


@dataclass(slots=True)
class Day:
    """One day of the machine; each part is good once the fixture of that part is."""

    story: Story
    unprepared: Result
    said: Result
    history: list[dict[str, Any]]
    sums: str
    later: Story
    """What comes after the copy was started."""
    second: Result = field(default_factory=lambda: Result(-1, "", ""))


def history(guest: Guest) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(scenario.dpsr(guest, "history", "--json").out)
    return found


def update(guest: Guest, *options: str) -> Result:
    """An update that ends well."""
    said = scenario.dpsr(guest, "update", *options)
    assert said.status == 0, f"{said.status}: {said.out}\n{said.err}"
    return said


def changed(before: Path, after: Path) -> list[str]:
    """Where the DPSR disk changed, its vault aside: that is mounted to be read."""
    return [
        f"byte {at} of the DPSR disk, in {part.name}, changed"
        for part in disk_image.table(before).parts
        if part.name != "dpsr-vault"
        for at in [checks.first_difference(before, after, part.start, part.end, fat=False)]
        if at is not None
    ]


@pytest.fixture(scope="module")
def day() -> Iterator[Day]:
    """`dpsr prepare`; changes; `dpsr update`, the primary writing all the while."""
    with cache.scratch() as folder:
        story = scenario.new_story(RECIPE, folder, "nvme")
        with scenario.working(story.sample, [scenario.own(story)]) as guest:
            scenario.settings(guest)
            unprepared = scenario.dpsr(guest, "update")
            guest.sh(OLD, timeout=120)
            first = scenario.dpsr(guest, "prepare", DPSR, "--yes")
            assert first.status == 0, first.err
            job = scenario.start_load(guest, story.folders)
            guest.sh(CHANGE, timeout=300)
            said = scenario.run_kept(story, guest, "update")
            story.loaded = scenario.stop_load(guest, job)
            assert said.status == 0, f"{said.status}: {said.out}\n{said.err}"
            story.left = scenario.left_behind(guest)
            story.status = json.loads(scenario.dpsr(guest, "status", "--json").out)
            story.facts = facts.ask(guest)
            known, sums = history(guest), guest.sh(SUMS)
            scenario.switch_off(story, guest)
        (folder / "later").mkdir()
        later = Story(story.sample, folder / "later", story.bus)
        disks.new_overlay(later.dpsr, story.dpsr)
        yield Day(story, unprepared, said, known, sums, later)


def test_before_prepare_it_says_what_to_do(day: Day) -> None:
    said = day.unprepared
    assert said.status == 27, f"{said.status}: {said.err}"
    assert "dpsr prepare" in said.err, said.err


def test_every_used_block_is_that_of_the_freeze(day: Day) -> None:
    verdict = scenario.judge(day.story, 2)
    assert verdict, str(verdict)
    assert verdict.compared > 400 << 20, str(verdict)


def test_only_what_changed_was_copied(day: Day) -> None:
    newest, oldest = day.history
    assert (newest["generation"], oldest["generation"]) == (2, 1)
    assert newest["newest"]
    assert newest["detector"] == "ext4"
    assert 60 << 20 < newest["bytes_written"] < 200 << 20, newest
    assert newest["bytes_written"] < oldest["bytes_written"] / 2
    assert 0 < newest["undo_log_bytes"] < newest["bytes_written"]
    assert 0 < newest["stall_seconds"] < 30, newest
    assert newest["taken"] > oldest["taken"]
    assert moment(newest["taken"]) in day.said.err


def test_status_tells_it_all(day: Day) -> None:
    status = day.story.status
    assert (status["state"], status["generation"], status["healthy"]) == ("clean", 2, True)
    assert status["taken"] == day.history[0]["taken"]
    last = status["last_run"]
    for figure in ("seconds", "bytes_written", "passes", "stall_seconds", "detector"):
        assert last[figure] == day.history[0][figure], figure


def test_nothing_is_left_behind(day: Day) -> None:
    assert day.story.left == {}


def test_the_firmware_still_knows_it_directly_after_the_primary(day: Day) -> None:
    none_of(checks.entry_faults(day.story))


def test_no_initrd_knows_the_primary(day: Day) -> None:
    none_of(checks.initrd_faults(day.story))


def is_the_copy(day: Day, guest: Guest) -> None:
    none_of(checks.copy_faults(day.story, facts.ask(guest)))
    checks.is_one_instant(day.story, guest)
    assert guest.sh(SUMS) == day.sums
    assert guest.sh("findmnt -no FSTYPE /mnt") == "tmpfs\n", "fstab is not that of the primary"


def test_alone_by_bios_in_another_bay(day: Day) -> None:
    with scenario.started(day.story, [day.story.spec("virtio")], "bios") as guest:
        is_the_copy(day, guest)


def test_a_drill_of_it_passes(day: Day) -> None:
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from dpsr.main import main; main()"
    words = ("drill", str(day.story.dpsr), "--firmware", "uefi", "--json")
    child = start(sys.executable, "-c", code, *words, stdout=PIPE, stderr=PIPE)
    out, err = child.communicate(timeout=900)
    answer = json.loads(out)
    assert child.returncode == 0, err
    assert (answer["passed"], answer["generation"]) == (True, 2), answer


# --- the copy is started, and work is done on it --------------------------------------------------


@pytest.fixture(scope="module")
def worked(day: Day) -> Day:
    """Alone, by UEFI with empty NVRAM."""
    with scenario.started(day.later, [scenario.own(day.later)], "uefi") as guest:
        is_the_copy(day, guest)
        day.second = scenario.dpsr(guest, "update")
        guest.sh(f"echo 'a day of work' > {WORK}; sync")
        guest.poweroff()
    return day


def test_copies_never_flow_backwards(worked: Day) -> None:
    assert worked.second.status == 29, f"{worked.second.status}: {worked.second.err}"
    assert "Nothing was written" in worked.second.err


@pytest.fixture(scope="module")
def guest(worked: Day) -> Iterator[Guest]:
    """The primary again, beside the DPSR disk on which somebody has worked."""
    later = worked.later
    ours = disks.new_overlay(later.folder / "primary.qcow2", worked.story.primary)
    both = [DiskSpec(ours, RECIPE.bus, PRIMARY, overlay=False), scenario.own(later)]
    with scenario.started(later, both, "uefi", worked.story.vars) as guest:
        none_of(checks.primary_faults(worked.story, facts.ask(guest)))
        yield guest


def test_work_on_the_copy_is_not_lost_unasked(worked: Day, guest: Guest) -> None:
    before = scenario.picture(worked.later, guest, "worked")
    said = scenario.dpsr(guest, "update")
    assert said.status == 44, f"{said.status}: {said.out}{said.err}"
    assert WORK in said.err
    assert "--discard-work-on-copy" in said.err
    assert scenario.left_behind(guest) == {}
    after = scenario.picture(worked.later, guest, "refused")
    none_of(changed(before, after))


def test_once_it_may_be_lost_the_copy_is_right_again(worked: Day, guest: Guest) -> None:
    said = scenario.run_kept(worked.later, guest, "update", "--discard-work-on-copy")
    assert said.status == 0, f"{said.status}: {said.out}{said.err}"
    verdict = scenario.judge(worked.later, 3, chained=False)
    assert verdict, str(verdict)
    (only,) = history(guest)
    assert (only["generation"], only["detector"], only["undo_log_bytes"]) == (3, "compare", 0)
    assert scenario.left_behind(guest) == {}


def test_again_at_once_there_is_little_to_copy(guest: Guest) -> None:
    update(guest)
    newest, before = history(guest)
    assert (newest["generation"], newest["detector"]) == (4, "ext4")
    assert newest["bytes_written"] < 8 << 20, newest
    assert newest["undo_log_bytes"] > 0
    assert before["generation"] == 3


def test_the_system_is_one_unit(guest: Guest) -> None:
    update(guest, "--only", "/boot/efi")
    newest = history(guest)[0]
    assert newest["generation"] == 5
    taken = {volume["mountpoint"]: volume["taken"] for volume in newest["volumes"]}
    assert taken == dict.fromkeys(("/", "/boot/efi"), newest["taken"])


def test_a_full_comparison_comes_to_the_same(worked: Day, guest: Guest) -> None:
    guest.sh("echo 1 > /srv/data/one-more; rm /srv/data/small-1*")
    said = scenario.run_kept(worked.later, guest, "update", "--full")
    assert said.status == 0, f"{said.status}: {said.out}{said.err}"
    verdict = scenario.judge(worked.later, 6)
    assert verdict, str(verdict)
    assert history(guest)[0]["detector"] == "compare"


def test_too_much_change_is_refused(worked: Day, guest: Guest) -> None:
    guest.sh(f"rm -r /srv/data; head -c {MUCH}M /dev/urandom > /srv/much; sync", timeout=300)
    before = scenario.picture(worked.later, guest, "little")
    said = scenario.dpsr(guest, "update")
    assert said.status == 43, f"{said.status}: {said.out}{said.err}"
    assert "--accept-change" in said.err, said.err
    assert scenario.left_behind(guest) == {}
    after = scenario.picture(worked.later, guest, "much")
    none_of(changed(before, after))
    assert history(guest)[0]["generation"] == 6


def test_accepted_it_is_copied_while_a_second_run_is_refused(worked: Day, guest: Guest) -> None:
    scenario.hold(guest, "undo-created")
    job = scenario.start(guest, "update", "--accept-change")
    scenario.wait_for(guest, job, "undo-created")
    second = scenario.dpsr(guest, "update")
    scenario.let_go(guest, "undo-created")
    said = job.wait(scenario.PATIENCE, ok=None)
    assert second.status == 26, f"{second.status}: {second.out}{second.err}"
    assert "Another dpsr is at work (dpsr update" in second.err, second.err
    assert said.status == 0, f"{said.status}: {said.out}{said.err}"
    image = scenario.picture(worked.later, guest, "accepted")
    state = oracle_disk.read_state(image, disk_image.table(image))
    assert (state["state"], state["gen"]) == ("clean", "7")


def test_without_its_disk_it_says_so(guest: Guest) -> None:
    guest.unplug(DPSR)
    said = scenario.dpsr(guest, "update")
    assert said.status == 71, f"{said.status}: {said.out}{said.err}"
    assert DPSR in said.err
    assert scenario.left_behind(guest) == {}
