# SPDX-License-Identifier: GPL-3.0-or-later
"""`dpsr fixup` on a disk that some other tool has cloned, byte by byte, from a quiet system."""

from collections.abc import Iterator
from typing import Final

import pytest

from core.run import run
from images import cache, disks
from images.recipe import Recipe
from tests.support import checks, disk_image, facts, oracle_disk, scenario
from tests.support.checks import none_of
from tests.support.scenario import DPSR, Story

pytestmark = pytest.mark.timeout(1800)

UEFI: Final = Recipe(13, "uefi", "gpt", bus="scsi")
BIOS: Final = Recipe(
    13, "bios", "mbr", boot_partition=True, swap="file", bus="virtio", modules="dep"
)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(UEFI, id="uefi", marks=pytest.mark.full),
        pytest.param(BIOS, id="bios"),
    ],
)
def story(request: pytest.FixtureRequest) -> Iterator[Story]:
    """The clone is plugged in beside its original, fixed up twice."""
    with cache.scratch() as folder:
        story = Story(scenario.system(request.param), folder, request.param.bus)
        disks.new_overlay(story.dpsr, story.sample.disk)
        with scenario.working(story.sample, [scenario.own(story)]) as guest:
            story.before = facts.files(guest)
            story.said = scenario.dpsr(guest, "fixup", DPSR)
            assert story.said.status == 0, f"{story.said.out}{story.said.err}"
            guest.sh("sync")
            run(
                "qemu-img", "convert", "-U", "-O", "raw", str(story.dpsr), str(folder / "first.raw")
            )
            again = scenario.dpsr(guest, "fixup", DPSR)
            assert again.status == 0, f"{again.out}{again.err}"
            story.left = scenario.left_behind(guest)
            story.facts = facts.ask(guest)
            story.after = facts.files(guest)
            guest.poweroff()
        yield story


def test_it_keeps_no_name_of_its_original(story: Story) -> None:
    image = story.raw("dpsr")
    table = disk_image.table(image)
    old = story.old_names()
    assert table.guid not in old
    for part in table.parts:
        found = disk_image.probe(image, part)
        assert not {found.get("UUID"), found.get("LABEL"), part.guid} & old, (part, found)


def test_nothing_but_boot_files_changed(story: Story) -> None:
    before, after = story.raw("before"), story.raw("dpsr")
    for old, new in zip(disk_image.table(before).parts, disk_image.table(after).parts, strict=True):
        if disk_image.probe(before, old).get("TYPE") == "ext4":
            assert disk_image.e2fsck(after, new) == ""
            none_of(oracle_disk.strange_changes(before, old, after, new))


def test_a_second_time_changes_nothing(story: Story) -> None:
    first, second = story.folder / "first.raw", story.raw("dpsr")
    table = disk_image.table(second)
    assert disk_image.table(first) == table
    for part in table.parts:
        assert disk_image.probe(first, part) == disk_image.probe(second, part)
        if disk_image.probe(second, part).get("TYPE") == "ext4":
            for path in ("/etc/fstab", "/boot/grub/grub.cfg", "/grub/grub.cfg"):
                texts = [disk_image.ext4_file(image, part, path) for image in (first, second)]
                assert texts[0] == texts[1], path


def test_the_original_is_as_it_was(story: Story) -> None:
    assert story.left == {}
    none_of(checks.unpermitted(story))
    assert story.facts is not None
    none_of(checks.primary_faults(story, story.facts))


def test_alone(story: Story) -> None:
    with scenario.started(story, [story.spec()], story.recipe.firmware) as guest:
        none_of(checks.copy_faults(story, facts.ask(guest)))


def test_beside_its_original(story: Story) -> None:
    both = [story.sample.spec(bootindex=1), story.spec(bootindex=0)]
    with scenario.started(story, both, story.recipe.firmware) as guest:
        none_of(checks.copy_faults(story, facts.ask(guest)))
