# SPDX-License-Identifier: GPL-3.0-or-later
"""`dpsr switch`: five starts of a machine with both disks: once, back, for good, back, pulled.

By UEFI the firmware's entries decide, by BIOS GRUB's menu on the primary. Which disk a start went
to is asked of the system that came up; the guests' clocks play no part in it.
"""

import json
import time
from typing import Any, Final

import pytest

from images import cache
from images.guest import Guest
from images.job import Result
from images.recipe import Recipe
from images.vm import Bus
from tests.support import facts, scenario
from tests.support.emulator import wait_up
from tests.support.scenario import DPSR, PRIMARY, Story

pytestmark = [pytest.mark.full, pytest.mark.timeout(3600)]

CASES: Final[dict[str, tuple[Recipe, Bus]]] = {
    "uefi": (Recipe(13, "uefi", "gpt", bus="scsi"), "nvme"),
    "bios": (
        Recipe(13, "bios", "mbr", boot_partition=True, swap="file", bus="virtio", modules="dep"),
        "scsi",
    ),
}
MARK: Final = "/srv/written-on-the-copy"


@pytest.fixture(params=CASES)
def story(request: pytest.FixtureRequest) -> Any:
    recipe, bus = CASES[request.param]
    with cache.scratch() as folder:
        story = scenario.new_story(recipe, folder, bus)
        with scenario.working(story.sample, [scenario.own(story)]) as guest:
            scenario.prepare(story, guest)
        yield story


def well(guest: Guest, *words: str) -> Result:
    said = scenario.dpsr(guest, *words)
    assert said.status == 0, f"{words}: {said.status}: {said.out}\n{said.err}"
    return said


def runs_from(guest: Guest) -> str:
    """Serial number of the disk that `/` lies on."""
    seen = facts.ask(guest)
    root = next(mount["source"] for mount in seen.mounts if mount["target"] == "/")
    return seen.disk_of(root)


def restart(guest: Guest) -> str:
    guest.poweroff()
    guest.power_on()
    wait_up(guest)
    return runs_from(guest)


def standing(guest: Guest) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(well(guest, "switch", "status", "--json").out)
    return found


def press(guest: Guest, key: str) -> None:
    guest.monitor.command("human-monitor-command", command_line=f"sendkey {key}")


def restart_and_choose_the_first_entry(guest: Guest) -> str:
    """What a person does at the menu of the primary: Home stops the countdown, Return starts."""
    guest.poweroff()
    guest.power_on()
    for _ in range(25):  # the firmware's part takes longer on a busy machine; Home does no harm
        press(guest, "home")
        time.sleep(1)
    press(guest, "ret")
    wait_up(guest)
    return runs_from(guest)


def order(guest: Guest) -> list[str]:
    return [number for number, _ in facts.ask(guest).entries()]


def test_five_starts(story: Story) -> None:
    uefi = story.recipe.firmware == "uefi"
    # SeaBIOS has an order of its own; OVMF goes by the boot entries.
    first, second = (None, None) if uefi else (0, 1)
    both = [story.beside(bootindex=first), story.spec(bootindex=second)]
    nvram = story.vars if uefi else None
    with scenario.started(story, both, story.recipe.firmware, nvram) as guest:
        assert runs_from(guest) == PRIMARY
        before = order(guest)
        assert standing(guest)["next"] == "primary"
        emitted = well(guest, "switch", "dpsr", "--emit").out
        guest.put("/run/emitted", emitted)
        guest.run("sh", "-n", "/run/emitted")

        well(guest, "switch", "dpsr", "--once")
        assert standing(guest)["next"] == "dpsr"
        assert restart(guest) == DPSR
        assert standing(guest)["trial"], "this start is a trial"
        motd = guest.get("/run/motd.d/dpsr").decode()
        assert "RUNS FROM THE DPSR DISK" in motd
        assert "FORGOTTEN" in motd
        assert guest.get("/etc/issue.d/dpsr.issue").decode() == motd
        guest.sh(f"echo trial > {MARK}; sync")

        assert restart(guest) == PRIMARY, "once is once"
        assert order(guest) == before
        said = well(guest, "update")
        assert "trial" in said.err, said.err
        well(guest, "switch", "dpsr")

        assert restart(guest) == DPSR
        guest.sh(f"test ! -e {MARK}")
        found = standing(guest)
        assert (found["here"], found["trial"]) == ("dpsr", False)
        assert "kept" in guest.get("/run/motd.d/dpsr").decode()
        if uefi:
            well(guest, "switch", "primary")
            assert restart(guest) == PRIMARY
        else:
            assert scenario.dpsr(guest, "switch", "primary").status == 47
            assert restart(guest) == DPSR, "for good is for good"
            assert restart_and_choose_the_first_entry(guest) == PRIMARY
            well(guest, "switch", "primary")
            assert restart(guest) == PRIMARY
        assert order(guest) == before
        assert standing(guest)["next"] == "primary"

        guest.sh("update-grub", timeout=300)
        menu = guest.get("/boot/grub/grub.cfg").decode()
        assert "--id dpsr {" in menu, "the entry survives update-grub"
        assert 'default="dpsr' not in menu

        guest.poweroff()
        guest.unplug(PRIMARY)
        guest.power_on()
        wait_up(guest)
        assert runs_from(guest) == DPSR, "the primary was pulled"
        assert guest.sh("cat /etc/issue.d/dpsr.issue").count("kept") == 1
