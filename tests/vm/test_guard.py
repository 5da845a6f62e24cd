# SPDX-License-Identifier: GPL-3.0-or-later
"""`dpsr guard`: good starts count for nothing, a wrecked primary leads to the copy without a key.

By UEFI its kernel is overwritten, so that GRUB itself fails; by BIOS its init is broken, and the
kernel panics. Nobody touches the keyboard, and no clock of a guest is asked.
"""

import json
from typing import Any, Final

import pytest

from images import cache
from images.guest import Guest
from images.recipe import Recipe
from images.vm import Bus
from tests.support import facts, scenario
from tests.support.emulator import wait_up
from tests.support.scenario import DPSR, PRIMARY, Story

pytestmark = [pytest.mark.full, pytest.mark.timeout(3600)]

TRIES: Final = 2
CASES: Final[dict[str, tuple[Recipe, Bus, str]]] = {
    "uefi": (
        Recipe(13, "uefi", "gpt", bus="scsi"),
        "nvme",
        "for kernel in /boot/vmlinuz-*; do echo none > $kernel; done",
    ),
    "bios": (
        Recipe(13, "bios", "mbr", boot_partition=True, swap="file", bus="virtio", modules="dep"),
        "scsi",
        "cd /usr/lib/systemd; echo none > new; chmod 755 new; mv new systemd",
    ),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Any:
    recipe, bus, wreck = CASES[request.param]
    with cache.scratch() as folder:
        story = scenario.new_story(recipe, folder, bus)
        with scenario.working(story.sample, [scenario.own(story)]) as guest:
            scenario.prepare(story, guest)
        yield story, wreck


def runs_from(guest: Guest) -> str:
    seen = facts.ask(guest)
    root = next(mount["source"] for mount in seen.mounts if mount["target"] == "/")
    return seen.disk_of(root)


def watch(guest: Guest, *words: str) -> dict[str, Any]:
    said = scenario.dpsr(guest, "guard", *(words or ("status",)), "--json")
    assert said.status == 0, f"{said.status}: {said.err}"
    found: dict[str, Any] = json.loads(said.out)
    return found


def start_anew(guest: Guest) -> str:
    guest.power_on()
    wait_up(guest, 1200)
    return runs_from(guest)


def test_a_wrecked_primary_leads_to_the_copy(case: tuple[Story, str]) -> None:
    story, wreck = case
    uefi = story.recipe.firmware == "uefi"
    # SeaBIOS has an order of its own; OVMF goes by the boot entries.
    first, second = (None, None) if uefi else (0, 1)
    both = [story.beside(bootindex=first), story.spec(bootindex=second)]
    nvram = story.vars if uefi else None
    with scenario.started(story, both, story.recipe.firmware, nvram) as guest:
        assert watch(guest, "on", "--tries", str(TRIES))["left"] == TRIES
        guest.poweroff()
        assert start_anew(guest) == PRIMARY
        guest.run("systemctl", "start", "dpsr-guard-good.service")  # waits until it has run
        assert watch(guest)["left"] == TRIES, "a good start counts for nothing"

        guest.sh(f"{wreck}; sync")
        guest.poweroff()
        assert start_anew(guest) == DPSR, "without a keystroke"
        guest.poweroff()
        assert start_anew(guest) == DPSR, "it never swings back by itself"
        assert not guest.sh("grep -c dpsr_failover /boot/grub/grub.cfg || :").strip("0\n")
