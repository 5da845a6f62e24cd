# SPDX-License-Identifier: GPL-3.0-or-later
"""`dpsr update` on a DPSR disk with the smallest vault, and on a primary that changes its shape.

One machine; each test goes on where the one before ended.
"""

from collections.abc import Iterator
from typing import Final

import pytest

from images import cache
from images.guest import Guest
from images.recipe import Recipe
from images.vm import MIB
from tests.support import disk_image, scenario
from tests.support.scenario import DPSR, Story
from tests.support.updates import generations, is_right, unlike, update

pytestmark = [pytest.mark.full, pytest.mark.timeout(2400)]

RECIPE: Final = Recipe(13, "uefi", "gpt", bus="scsi")
SIZE: Final = (1 + 1 + 512 + 128 + 2814 + 128 + 256 + 1) * MIB
"""GPT, BIOS boot, control, ESP, root, swap, the least vault, GPT."""
MUCH: Final = 300
"""MiB of random content, more than the vault can hold."""
SOME: Final = 80
"""MiB that are overwritten each time: the vault holds that twice or three times."""


@pytest.fixture(scope="module")
def story() -> Iterator[Story]:
    with cache.scratch() as folder:
        yield scenario.new_story(RECIPE, folder, "scsi", SIZE)


@pytest.fixture(scope="module")
def guest(story: Story) -> Iterator[Guest]:
    with scenario.working(story.sample, [scenario.own(story)]) as guest:
        scenario.settings(guest)
        guest.sh(f"head -c {MUCH}M /dev/urandom > /srv/much; sync", timeout=300)
        said = scenario.dpsr(guest, "prepare", DPSR, "--yes")
        assert said.status == 0, f"{said.status}: {said.err}"
        yield guest


def overwrite(guest: Guest, mib: int) -> None:
    """Put new content into the file, in place."""
    guest.sh(
        f"head -c {mib}M /dev/urandom | dd of=/srv/much bs=1M conv=notrunc iflag=fullblock "
        "status=none; sync",
        timeout=300,
    )


def test_a_vault_that_fills_gives_up_the_oldest_generation(story: Story, guest: Guest) -> None:
    known = [1]
    for newest in (2, 3, 4, 5):
        overwrite(guest, SOME)
        update(guest, 0)
        known = generations(guest)
        assert known[0] == newest
        assert len(known) > 1
    assert known[-1] > 1, f"a vault of 256 MiB holds {known}"
    overwrite(guest, SOME)
    said = is_right(story, guest)
    assert "The oldest generation was dropped" in said.err, said.err


def test_what_cannot_fit_is_taken_back(story: Story, guest: Guest) -> None:
    before = scenario.picture(story, guest, "before-full")
    newest = generations(guest)[0]
    overwrite(guest, MUCH)
    said = update(guest, 64, "--accept-change")
    assert "as before; it starts" in said.err, said.err
    assert unlike(before, scenario.picture(story, guest, "full")) == []
    assert generations(guest)[0] == newest
    guest.sh("rm /srv/much; fstrim -v / || true")
    is_right(story, guest)


def test_a_disk_that_is_pulled_out_goes_back_once_it_is_there_again(
    story: Story, guest: Guest
) -> None:
    guest.sh("head -c 30M /dev/urandom > /srv/some; sync")
    before = scenario.picture(story, guest, "before-pulled")
    scenario.hold(guest, "overwritten")
    job = scenario.start(guest, "update")
    scenario.wait_for(guest, job, "overwritten")
    guest.unplug(DPSR)
    scenario.let_go(guest, "overwritten")
    said = job.wait(300, ok=None)
    assert 50 <= said.status < 70, f"{said.status}: {said.out}{said.err}"
    assert "Traceback" not in said.err
    assert "back to the backup of" in said.err, said.err
    assert scenario.left_behind(guest) == {}

    guest.plug(scenario.own(story))
    guest.wait_disk(DPSR)
    scenario.hold(guest, "rolled-back")
    job = scenario.start(guest, "update", "--only", "/nowhere")
    scenario.wait_for(guest, job, "rolled-back")
    assert unlike(before, scenario.picture(story, guest, "pulled")) == []
    scenario.let_go(guest, "rolled-back")
    assert job.wait(300, ok=None).status == 34
    is_right(story, guest)


def test_a_new_volume_is_told_and_left_out(story: Story, guest: Guest) -> None:
    """It takes the place of the swap partition."""
    guest.sh("""
        swapoff -a; part=$(lsblk -lnpo NAME,SERIAL,TYPE | awk '$2 == "PRIMARY1" {print $1}')3
        mkfs.ext4 -q -F $part; mkdir -p /srv/new; sed -i '/swap/d' /etc/fstab
        echo "UUID=$(blkid -s UUID -o value $part) /srv/new ext4 defaults 0 2" >> /etc/fstab
        systemctl daemon-reload; mount /srv/new; echo new > /srv/new/file
    """)
    said = update(guest, 0)
    assert "/srv/new is new and has no place on the DPSR disk: it is not copied." in said.err
    assert "dpsr prepare --again" in said.err


def test_the_copy_starts_without_the_new_volume(story: Story, guest: Guest) -> None:
    image = scenario.picture(story, guest, "without")
    fstab = disk_image.ext4_file(
        image, disk_image.table(image).named("dpsr-slot-root"), "/etc/fstab"
    ).decode()
    (line,) = [line for line in fstab.splitlines() if " /srv/new " in line]
    assert "nofail" in line, line


def test_a_volume_that_is_not_mounted_is_refused(guest: Guest) -> None:
    guest.sh("umount /boot/efi")
    said = update(guest, 36)
    assert "/boot/efi is in /etc/fstab but not mounted. Nothing was written." in said.err
    guest.sh("mount /boot/efi")
    update(guest, 0)


def test_a_file_system_that_outgrew_its_slot_is_refused(story: Story, guest: Guest) -> None:
    guest.sh("""
        umount /srv/new; sed -i '/srv.new/d' /etc/fstab; systemctl daemon-reload
        disk=$(lsblk -dnpo NAME,SERIAL | awk '$2 == "PRIMARY1" {print $1}')
        sfdisk --no-reread --no-tell-kernel -q --delete $disk 3
        echo ', +' | sfdisk --no-reread --no-tell-kernel -q --force -N 2 $disk
        partx --delete --nr 3 $disk; partx --update --nr 2 $disk; resize2fs $(findmnt -no SOURCE /)
    """)
    before = scenario.picture(story, guest, "before-grown")
    said = update(guest, 42)
    assert "/ has grown to" in said.err, said.err
    assert "Nothing was written" in said.err
    assert "dpsr prepare --again" in said.err
    assert unlike(before, scenario.picture(story, guest, "grown")) == []
