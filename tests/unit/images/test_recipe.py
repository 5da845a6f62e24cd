# SPDX-License-Identifier: GPL-3.0-or-later
"""The sample system's disk."""

import itertools
import re
from pathlib import Path

import pytest

from images.recipe import Recipe, fstab, key, layout, packages, sfdisk_script
from images.vm import MIB

RECIPES = [
    Recipe(release, firmware, table, boot, swap)  # type: ignore[arg-type] # product() loses Literal
    for release, firmware, table, boot, swap in itertools.product(
        (12, 13), ("uefi", "bios"), ("gpt", "mbr"), (False, True), ("partition", "file", "none")
    )
]  # fmt: skip


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_partitions_fit_and_do_not_overlap(recipe: Recipe) -> None:
    parts = [part for part in layout(recipe) if part.what != "extended"]
    for before, after in itertools.pairwise(parts):
        assert before.start + before.size <= after.start
    assert parts[0].start >= MIB
    assert parts[-1].start + parts[-1].size <= recipe.size - MIB
    assert all(part.start % MIB == 0 and part.size % MIB == 0 for part in parts)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_every_file_system_of_fstab_is_on_the_disk(recipe: Recipe) -> None:
    uuids = {part.uuid for part in layout(recipe)}
    named = [line.split()[0] for line in fstab(recipe).splitlines() if line.startswith("UUID=")]
    assert all(name.removeprefix("UUID=") in uuids for name in named)
    assert len(set(named)) == len(named)
    assert ("swap" in fstab(recipe)) == (recipe.swap != "none")


def test_swap_with_an_mbr_is_a_logical_partition_as_debians_installer_makes_it() -> None:
    parts = {part.what: part for part in layout(Recipe(firmware="bios", table="mbr"))}
    assert parts["swap"].number == 5
    outer, inner = parts["extended"], parts["swap"]
    assert outer.start < inner.start
    assert inner.start + inner.size <= outer.start + outer.size


def test_bios_on_gpt_has_a_place_for_grub_and_uefi_has_an_esp() -> None:
    assert layout(Recipe(firmware="bios"))[0].what == "bios"
    assert layout(Recipe(firmware="uefi"))[0].what == "esp"
    assert layout(Recipe(firmware="bios", table="mbr"))[0].what == "root"


def test_the_script_for_sfdisk_counts_sectors() -> None:
    lines = sfdisk_script(Recipe()).splitlines()
    assert lines[0] == "label: gpt"
    assert lines[3].startswith("1: start=2048, size=262144, type=C12A7328")


def test_one_partition_of_an_mbr_is_bootable() -> None:
    script = sfdisk_script(Recipe(firmware="bios", table="mbr", boot_partition=True))
    assert script.count("bootable") == 1


def test_the_cloud_kernel_cannot_drive_sata() -> None:
    with pytest.raises(ValueError, match="AHCI"):
        Recipe(bus="sata")
    assert Recipe(bus="sata", kernel="generic").name == "debian13-uefi-gpt-sata-generic"


def test_an_unknown_release_is_refused() -> None:
    with pytest.raises(ValueError, match="Debian 9"):
        Recipe(release=9)


def test_keys_change_with_the_content_and_only_then() -> None:
    assert key(Recipe()) == key(Recipe())
    assert len({key(recipe) for recipe in RECIPES}) == len(RECIPES)
    assert key("a", "b") != key("ab", "")


def test_two_recipes_share_no_uuid() -> None:
    one, other = (layout(Recipe(release=release)) for release in (12, 13))
    assert not {part.uuid for part in one} & {part.uuid for part in other}


def test_our_package_can_be_installed_in_it_without_a_network() -> None:
    control = (Path(__file__).parents[3] / "packaging/debian/control").read_text()
    depends = control.partition("\nDepends:")[2]
    wanted = re.match(r"(?: .*\n|\n)+", depends)
    assert wanted, "control has no Depends any more"
    needed = re.findall(r"^ ([a-z0-9.+-]+)", wanted[0], re.MULTILINE)
    assert len(needed) > 10
    assert set(needed) <= {*packages(Recipe()), "python3"}, "it has to be in images/recipe.py too"
