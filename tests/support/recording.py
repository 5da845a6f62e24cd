# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest's backups to a DPSR disk, every write and flush of it recorded."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from core.run import run
from images import disks
from images.guest import Guest
from images.recipe import Recipe
from tests.support import disk_image, flush_log, scenario
from tests.support.flush_log import Window, plug_recorded
from tests.support.scenario import DPSR, PRIMARY, Story
from tests.support.shared_clusters import leave_behind

RECIPE: Final = Recipe(13, "uefi", "gpt", bus="scsi")

FIRST: Final = """
mkdir -p /srv/data; cd /srv/data
for i in $(seq 60); do head -c $((i * 1000)) /dev/urandom > file-$i; done
head -c 6000000 /dev/urandom > big
"""
CHANGE: Final = """
cd /srv/data; head -c 3000000 /dev/urandom > new; rm file-1*; mv file-20 renamed
dd if=/dev/urandom of=file-50 bs=4096 count=10 conv=notrunc status=none
head -c 100000 /dev/urandom > /boot/efi/EFI/debian/note.bin; sync
"""
OTHER_RESCUE: Final = """
cd /usr/lib/dpsr; old=$(ls /var/cache/dpsr/rescue-*.img)
echo '# another one' >> images/scripts/rescue-hook.sh
new=$(python3 -c 'from images import rescue; print(rescue.name_of(rescue.own_kernel()))')
mv $old /var/cache/dpsr/rescue-$new.img; head -c 4096 /dev/zero >> /var/cache/dpsr/rescue-$new.img
"""
"""The program changes, and its rescue system with it; the minute to make that is left out."""

REWRITE: Final = """
cd /srv/data; dd if=/dev/urandom of=big bs=1000000 count=6 conv=notrunc status=none; sync
"""
"""What it overwrites cannot be compressed: six megabytes of the vault, each time."""
CROWD: Final = """
mkdir -p /run/crowd; mount -t ext4 "$1" /run/crowd; cd /run/crowd
fallocate -l $(($(stat -f -c '%a * %S' .) - 3000000)) ballast; cd /; umount /run/crowd
"""

Job = Callable[[Guest], None]


@dataclass(slots=True)
class Recording:
    """Some jobs on one DPSR disk; the files are good as long as their folder."""

    story: Story
    base: Path
    """The disk before the first job (raw)."""
    log: Path
    jobs: dict[str, tuple[int, int]]
    """From where to where each reaches in the log."""

    @property
    def primary(self) -> Path:
        """The primary's disk after the last job (qcow2)."""
        return self.story.folder / "primary.qcow2"

    def windows(self, job: str) -> tuple[Window, ...]:
        return flush_log.windows(self.log, *self.jobs[job])


def well(guest: Guest, *words: str) -> str:
    said = scenario.dpsr(guest, *words)
    assert said.status == 0, f"{words}: {said.status}: {said.out}\n{said.err}"
    return said.err


def record(folder: Path, jobs: Mapping[str, Job]) -> Recording:
    """Prepare a disk, damage its control partition; then record `jobs`.

    The primary is kept as it is in the end.
    """
    story = Story(scenario.system(RECIPE), folder, "scsi")
    raw = disks.new_disk(folder / "dpsr.raw", scenario.SIZE, "raw")
    spec = replace(story.spec(overlay=False), path=raw, format="raw")
    found = Recording(story, folder / "base.raw", folder / "log.raw", {})
    with scenario.working(story.sample, [spec]) as guest:
        scenario.settings(guest)
        guest.sh(FIRST)
        well(guest, "prepare", DPSR, "--yes")
        guest.unplug(DPSR)
        control = disk_image.table(raw).named("dpsr-control")
        leave_behind(raw, control.start, bytes(range(256)) * 2000)
        run("cp", "--reflink=auto", "--sparse=always", str(raw), str(found.base))
        guest.disks.append(spec)
        plug_recorded(guest, raw, found.log)
        begin = flush_log.length(guest, found.log)
        for name, job in jobs.items():
            job(guest)
            end = flush_log.length(guest, found.log)
            found.jobs[name] = begin, end
            begin = end
        guest.sh("sync")
        guest.pull_power()
        run("cp", "--sparse=always", str(guest.file_of(PRIMARY)), str(found.primary))
        if guest.vars is not None:
            disks.new_vars(story.vars, guest.vars)
    return found


def updated(guest: Guest) -> None:
    """An update that renews the rescue system."""
    guest.sh(OTHER_RESCUE + CHANGE)
    said = well(guest, "update")
    assert "Renewing the rescue system" in said, said
    assert "is not that of today" not in said, said


def rolled_back(guest: Guest) -> None:
    """Back to the generation before."""
    newest = json.loads(scenario.dpsr(guest, "status", "--json").out)["generation"]
    well(guest, "rollback", str(newest - 1), "--yes")


def rewritten(guest: Guest) -> None:
    """An update whose undo log is large."""
    guest.sh(REWRITE)
    well(guest, "update")


def killed(guest: Guest) -> None:
    """An update that is killed with all of it written; the next one takes it back, and succeeds."""
    guest.sh(REWRITE)
    scenario.hold(guest, "written")
    job = scenario.start(guest, "update")
    scenario.wait_for(guest, job, "written")
    guest.run("kill", "-KILL", str(job.pid))
    scenario.let_go(guest, "written")
    job.wait(60, ok=None)
    assert "Taking back an interrupted update" in well(guest, "update")


def pruned(guest: Guest) -> None:
    """An update that drops the oldest generation, since the vault is full."""
    vault = f"{guest.wait_disk(DPSR)}{guest.sh('ls /dev/sd*').split()[-1][-1]}"
    guest.run("/bin/sh", "-euc", CROWD, "sh", vault)
    guest.sh(REWRITE)
    assert "The oldest generation was dropped" in well(guest, "update")
