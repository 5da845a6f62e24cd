# SPDX-License-Identifier: GPL-3.0-or-later
"""Updates in a guest, one after the other, each held to how it ought to end."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from images import cache
from images.guest import Guest
from images.job import Result
from images.recipe import Recipe
from tests.support import checks, disk_image, scenario
from tests.support.scenario import DPSR, Story


def update(guest: Guest, code: int, *options: str) -> Result:
    """An update that ends with this code, and leaves nothing behind."""
    return ended(guest, scenario.dpsr(guest, "update", *options), code)


def ended(guest: Guest, said: Result, code: int) -> Result:
    """Fails unless a run ended with this code, and left nothing behind."""
    assert said.status == code, f"{said.status}: {said.out}{said.err}"
    assert "Traceback" not in said.err, said.err
    assert scenario.left_behind(guest) == {}
    return said


def history(guest: Guest) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(scenario.dpsr(guest, "history", "--json").out)
    return found


def generations(guest: Guest) -> list[int]:
    return [each["generation"] for each in history(guest)]


def unlike(before: Path, after: Path) -> list[str]:
    """Slots that differ between two images."""
    return [
        part.name
        for part in disk_image.table(before).parts
        if part.name.startswith("dpsr-slot-")
        and checks.first_difference(before, after, part.start, part.end, fat=False) is not None
    ]


def is_right(story: Story, guest: Guest, *options: str) -> Result:
    """An update whose copy the oracle finds right."""
    generation = generations(guest)[0] + 1
    said = scenario.run_kept(story, guest, "update", *options)
    assert said.status == 0, f"{said.status}: {said.out}{said.err}"
    holds(story, guest, generation)
    return said


def holds(story: Story, guest: Guest, generation: int) -> None:
    """Fails unless the DPSR disk has this generation, as it was in the last freeze kept."""
    scenario.picture(story, guest, f"dpsr-{len(story.frozen)}")
    verdict = scenario.judge(story, generation)
    assert verdict, str(verdict)


# --- a machine to take backups of -----------------------------------------------------------------

RECIPE: Final = Recipe(13, "uefi", "gpt", bus="scsi")
DATA: Final = "/srv/data"
"""Mount point of a volume of its own."""

_DATA: Final = f"""
swapoff -a; sed -i '/swap/d' /etc/fstab
part=$(lsblk -lnpo NAME,SERIAL,TYPE | awk '$2 == "PRIMARY1" {{print $1}}')3
wipefs -qa $part; mkfs.ext4 -q -F $part 100M
echo "UUID=$(blkid -s UUID -o value $part) {DATA} ext4 defaults 0 2" >> /etc/fstab
mkdir {DATA}; systemctl daemon-reload; mount {DATA}
"""
"""The place of the swap partition is taken by a file system that fills most of it."""


@contextmanager
def prepared(recipe: Recipe = RECIPE, fill: str = ":") -> Iterator[tuple[Story, Guest]]:
    """A machine with a root and a data volume, and its first backup.

    `fill`: what is done before that.
    """
    with cache.scratch() as folder:
        story = scenario.new_story(recipe, folder, "scsi")
        with scenario.working(story.sample, [scenario.own(story)]) as guest:
            scenario.settings(guest)
            guest.sh(_DATA)
            guest.sh(fill, timeout=300)
            said = scenario.dpsr(guest, "prepare", DPSR, "--yes")
            assert said.status == 0, f"{said.status}: {said.err}"
            yield story, guest
