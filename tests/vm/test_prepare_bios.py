# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian 13 with BIOS and MBR on virtio, /boot of its own, a swap file, MODULES=dep, DPSR on SCSI.

The power fails in the first copy; nothing starts from the disk then; the second `prepare` goes on.
"""

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import pytest

from core.run import run
from images import cache
from images.guest import Guest
from images.recipe import Recipe
from images.vm import DiskSpec, Firmware
from tests.support import checks, disk_image, facts, oracle_disk, scenario
from tests.support.checks import none_of
from tests.support.packages import Archive, install
from tests.support.scenario import DPSR, PRIMARY, Story

pytestmark = pytest.mark.timeout(2400)

RECIPE: Final = Recipe(
    13, "bios", "mbr", boot_partition=True, swap="file", bus="virtio", modules="dep"
)
GRUB: Final = ("grub-common", "grub2-common", "grub-efi-amd64-bin", "grub-pc-bin", "grub-pc")
INTO_THE_COPY: Final = 6.0
"""Seconds of copying before the power fails."""


@pytest.fixture(scope="module")
def story() -> Iterator[Story]:
    """The power fails in `dpsr prepare`; the primary starts again, and `prepare` again."""
    with cache.scratch() as folder:
        story = scenario.new_story(RECIPE, folder, "scsi")
        with scenario.working(story.sample, [scenario.own(story)]) as guest:
            scenario.start_load(guest, ["/var/lib/first"])
            scenario.hold(guest, "bootable")
            prepare = scenario.start(guest, "prepare", DPSR, "--yes")
            scenario.wait_for(guest, prepare, "bootable")
            scenario.let_go(guest, "bootable")
            time.sleep(INTO_THE_COPY)
            assert prepare.poll() is None, f"it ended: {prepare.poll()}"
            guest.pull_power()
            disk_image.raw(story.dpsr, story.folder / "interrupted.raw")
            for firmware in ("bios", "uefi"):
                story.refused[firmware] = screen_of(story, firmware)
            # SeaBIOS would take the SCSI disk first, whatever was there before it.
            guest.disks[0] = replace(guest.disks[0], bootindex=0)
            guest.power_on()
            guest.wait_up(600)
            none_of(checks.primary_faults(story, facts.ask(guest)))
            scenario.prepare(story, guest)
        yield story


def screen_of(story: Story, firmware: Firmware) -> str:
    """What the disk alone says on the console in half a minute."""
    with Guest([story.spec()], firmware, agent=False, kernel=story.sample.kernel) as guest:
        guest.console.expect("There is no complete copy on this disk yet", timeout=120)
        time.sleep(20)
        return guest.said


def test_an_interrupted_copy_says_so_on_the_disk(story: Story) -> None:
    image = story.folder / "interrupted.raw"
    table = disk_image.table(image)
    assert oracle_disk.layout_faults(table) == []
    assert oracle_disk.read_state(image, table)["state"] == "building"


def test_an_interrupted_copy_never_looks_like_the_primary(story: Story) -> None:
    image = story.folder / "interrupted.raw"
    for part in disk_image.table(image).parts:
        found = disk_image.probe(image, part)
        assert not {found.get("UUID"), found.get("LABEL"), part.guid} & story.old_names(), part


@pytest.mark.parametrize("firmware", ["bios", "uefi"])
def test_an_interrupted_copy_is_not_started(story: Story, firmware: Firmware) -> None:
    said = story.refused[firmware]
    assert "Linux version" not in said
    assert "Loading" not in said, said


def test_prepare_again_goes_on(story: Story) -> None:
    assert "is laid out already, only what differs is written" in story.said.err


def test_every_used_block_is_that_of_the_freeze(story: Story) -> None:
    verdict = scenario.judge(story)
    assert verdict, str(verdict)
    assert verdict.compared > 400 << 20, str(verdict)


def test_the_primary_is_as_it_was(story: Story) -> None:
    none_of(checks.unpermitted(story))
    none_of(checks.disk_faults(story))


def test_nothing_is_left_behind(story: Story) -> None:
    assert story.left == {}


def test_no_initrd_knows_the_primary(story: Story) -> None:
    none_of(checks.initrd_faults(story))


def test_alone_by_uefi_with_empty_nvram_on_its_own_bus(story: Story) -> None:
    with scenario.started(story, [story.spec()], "uefi") as guest:
        seen = facts.ask(guest)
        none_of(checks.copy_faults(story, seen))
        assert seen.uefi
        checks.is_one_instant(story, guest)


def test_alone_by_bios_in_the_bay_of_the_primary(story: Story) -> None:
    with scenario.started(story, [story.spec("virtio")], "bios") as guest:
        none_of(checks.copy_faults(story, facts.ask(guest)))


def test_beside_the_primary_and_with_a_new_kernel_and_grub(story: Story) -> None:
    """Chosen in the firmware, updated there, and started again in the bay of the primary."""
    assert story.facts is not None
    archive = Archive(RECIPE.release)
    kernel = archive.newer_kernel(story.facts.kernel)
    both = [story.beside(), story.spec(bootindex=0)]
    with scenario.started(story, both, "bios") as guest:
        none_of(checks.copy_faults(story, facts.ask(guest)))
        install(guest, archive, kernel, *GRUB)
        none_of(facts.ask(guest).names(story.old_names()))
        guest.poweroff()
        # Exit status 1, hence an error, when a single byte differs.
        run("qemu-img", "compare", str(guest.file_of(PRIMARY)), str(story.primary), timeout=300)

        overlay = guest.file_of(DPSR)
        guest.unplug(PRIMARY)
        guest.disks = [DiskSpec(overlay, "virtio", DPSR, overlay=False)]
        guest.power_on()
        guest.wait_up(600)
        seen = facts.ask(guest)
        none_of(checks.copy_faults(story, seen))
        assert f"linux-image-{seen.kernel}" == kernel
