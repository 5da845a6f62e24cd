# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian 13 with UEFI and GPT on SCSI, a swap partition, the DPSR disk on NVMe: the whole story."""

import json
import shutil
from collections.abc import Iterator
from typing import Final

import pytest

from core.run import run
from images import cache
from images.guest import Guest
from images.recipe import Recipe
from tests.support import checks, disk_image, facts, scenario
from tests.support.checks import none_of
from tests.support.packages import Archive, install
from tests.support.scenario import DPSR, PRIMARY, Story

pytestmark = pytest.mark.timeout(2400)

RECIPE: Final = Recipe(13, "uefi", "gpt", bus="scsi")
GRUB: Final = ("grub-common", "grub2-common", "grub-pc-bin", "grub-efi-amd64-bin", "grub-efi-amd64")


@pytest.fixture(scope="module")
def story() -> Iterator[Story]:
    """`dpsr prepare`, the primary writing all the while."""
    with cache.scratch() as folder:
        story = scenario.new_story(RECIPE, folder, "nvme")
        with scenario.working(story.sample, [scenario.own(story)]) as guest:
            scenario.prepare(story, guest)
        yield story


def test_every_used_block_is_that_of_the_freeze(story: Story) -> None:
    verdict = scenario.judge(story)
    assert verdict, str(verdict)
    assert verdict.compared > 400 << 20, str(verdict)


def test_the_primary_is_as_it_was(story: Story) -> None:
    none_of(checks.unpermitted(story))
    none_of(checks.disk_faults(story))


def test_nothing_is_left_behind(story: Story) -> None:
    assert story.left == {}


def test_status_tells_it_all(story: Story) -> None:
    status = story.status
    promised = {
        "name", "state", "generation", "taken", "age_seconds", "running_from", "hidden", "dpsr",
        "volumes", "last_run", "last_drill", "next_run", "healthy",
    }  # fmt: skip
    assert promised <= status.keys()
    assert (status["name"], status["state"], status["generation"]) == ("system", "clean", 1)
    assert (status["running_from"], status["healthy"]) == ("primary", True)
    assert 0 < status["age_seconds"] < 600
    table = disk_image.table(story.raw("dpsr"))
    assert status["dpsr"]["serial"] == DPSR
    assert status["dpsr"]["guid"].lower() == table.guid
    assert status["dpsr"]["size_bytes"] == scenario.SIZE
    volumes = {volume["mountpoint"]: volume for volume in status["volumes"]}
    assert volumes.keys() == {"/", "/boot/efi"}
    for name, where in (("root", "/"), ("efi", "/boot/efi")):
        found = disk_image.probe(story.raw("dpsr"), table.named(f"dpsr-slot-{name}"))
        assert volumes[where]["slot_uuid"] == found["UUID"]
        assert volumes[where]["fstype"] == found["TYPE"]
    last = status["last_run"]
    assert last["bytes_written"] >= 400 << 20, last
    assert last["passes"] >= 1


def test_writers_waited_for_a_moment_only(story: Story) -> None:
    stall = story.status["last_run"]["stall_seconds"]
    assert 0 < stall < 10, "the freeze was held by the test; the rest of it is short"


def test_the_firmware_knows_it_directly_after_the_primary(story: Story) -> None:
    none_of(checks.entry_faults(story))


def test_no_initrd_knows_the_primary(story: Story) -> None:
    none_of(checks.initrd_faults(story))


def test_alone_by_uefi_with_empty_nvram_in_the_bay_of_the_primary(story: Story) -> None:
    with scenario.started(story, [story.spec("scsi")], "uefi") as guest:
        none_of(checks.copy_faults(story, facts.ask(guest)))
        checks.is_one_instant(story, guest)


def test_alone_by_bios_on_another_bus(story: Story) -> None:
    with scenario.started(story, [story.spec("virtio")], "bios") as guest:
        seen = facts.ask(guest)
        none_of(checks.copy_faults(story, seen))
        assert not seen.uefi


def test_beside_the_primary_and_with_a_new_kernel_and_grub(story: Story) -> None:
    """The primary starts; then, once, the copy, where a kernel and GRUB are installed."""
    assert story.facts is not None
    archive = Archive(RECIPE.release)
    kernel = archive.newer_kernel(story.facts.kernel)
    both = [story.beside(), story.spec()]
    with scenario.started(story, both, "uefi", story.vars) as guest:
        seen = facts.ask(guest)
        none_of(checks.primary_faults(story, seen))
        guest.run("efibootmgr", "--bootnext", seen.entry("DPSR recovery"))
        guest.poweroff()
        kept = shutil.copy(guest.file_of(PRIMARY), guest.folder / "kept.qcow2")

        guest.power_on()
        guest.wait_up(600)
        seen = facts.ask(guest)
        none_of(checks.copy_faults(story, seen))
        checks.is_one_instant(story, guest)
        assert seen.kernel == story.facts.kernel
        flows_not_backwards(guest)
        install(guest, archive, kernel, *GRUB)
        again = facts.ask(guest)
        assert again.nvram == seen.nvram, "the firmware's entries changed"
        none_of(again.names(story.old_names()))
        guest.poweroff()
        # Exit status 1, hence an error, when a single byte differs.
        run("qemu-img", "compare", str(guest.file_of(PRIMARY)), str(kept), timeout=300)

        guest.unplug(PRIMARY)
        guest.vars = None
        for firmware in ("uefi", "bios"):
            guest.firmware = firmware
            guest.power_on()
            guest.wait_up(600)
            seen = facts.ask(guest)
            none_of(checks.copy_faults(story, seen))
            assert f"linux-image-{seen.kernel}" == kernel, f"by {firmware}"
            assert seen.uefi == (firmware == "uefi")
            guest.poweroff()


def flows_not_backwards(guest: Guest) -> None:
    said = scenario.dpsr(guest, "prepare", PRIMARY, "--yes")
    assert said.status == 29, f"{said.status}: {said.err}"
    assert "Nothing was written" in said.err
    status = json.loads(scenario.dpsr(guest, "status", "--json").out)
    assert status["running_from"] == "dpsr", status
    assert status["state"] == "clean", status
