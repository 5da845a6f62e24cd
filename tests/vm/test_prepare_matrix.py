# SPDX-License-Identifier: GPL-3.0-or-later
"""The other machines: every release, firmware, table, bus and layout at least once."""

from typing import Final

import pytest

from images import cache
from images.recipe import Recipe
from images.vm import Bus, Firmware
from tests.support import checks, facts, scenario
from tests.support.checks import none_of

pytestmark = [pytest.mark.matrix, pytest.mark.timeout(3600)]

CELLS: Final[tuple[tuple[Recipe, Bus, tuple[Bus, ...]], ...]] = (
    # The primary, the bus of the DPSR disk, and the buses from which the copy starts alone.
    (Recipe(13, "uefi", "gpt", boot_partition=True, swap="file", bus="virtio"), "scsi", ("nvme",)),
    (Recipe(13, "bios", "gpt", bus="nvme"), "virtio", ("nvme", "scsi")),
    (Recipe(13, "bios", "mbr", bus="virtio", modules="dep"), "nvme", ("virtio", "nvme")),
    (Recipe(13, "uefi", "gpt", bus="sata", kernel="generic"), "sata", ("sata", "nvme")),
    (Recipe(13, "bios", "mbr", bus="sata", kernel="generic", modules="dep"), "nvme", ("sata",)),
    (Recipe(12, "uefi", "gpt", bus="scsi"), "nvme", ("scsi", "virtio")),
    (Recipe(12, "uefi", "gpt", boot_partition=True, bus="nvme", modules="dep"), "scsi", ("nvme",)),
    (Recipe(12, "bios", "mbr", boot_partition=True, bus="virtio"), "scsi", ("virtio",)),
    (Recipe(12, "bios", "mbr", swap="file", bus="scsi", modules="dep"), "virtio", ("scsi",)),
    (Recipe(12, "bios", "gpt", swap="none", bus="virtio"), "nvme", ("nvme", "scsi")),
)
OTHER: Final[dict[Firmware, Firmware]] = {"uefi": "bios", "bios": "uefi"}


@pytest.mark.parametrize(("recipe", "bus", "buses"), CELLS, ids=[c[0].name for c in CELLS])
def test_prepare(recipe: Recipe, bus: Bus, buses: tuple[Bus, ...]) -> None:
    with cache.scratch() as folder:
        story = scenario.new_story(recipe, folder, bus)
        with scenario.working(story.sample, [scenario.own(story)]) as guest:
            scenario.prepare(story, guest)
        verdict = scenario.judge(story)
        assert verdict, str(verdict)
        assert story.left == {}
        none_of(checks.unpermitted(story))
        none_of(checks.disk_faults(story))
        none_of(checks.initrd_faults(story))
        if recipe.firmware == "uefi":
            none_of(checks.entry_faults(story))
        for other, firmware in zip(
            (*buses, bus), (recipe.firmware, OTHER[recipe.firmware]) * 2, strict=False
        ):
            with scenario.started(story, [story.spec(other)], firmware) as guest:
                seen = facts.ask(guest)
                none_of(checks.copy_faults(story, seen))
                assert seen.uefi == (firmware == "uefi")
                checks.is_one_instant(story, guest)
        both = [story.beside(bootindex=1), story.spec(bootindex=0)]
        with scenario.started(story, both, recipe.firmware) as guest:
            none_of(checks.copy_faults(story, facts.ask(guest)))
