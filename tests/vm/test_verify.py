# SPDX-License-Identifier: GPL-3.0-or-later
"""`dpsr verify`: bits flip on the DPSR disk, from outside; it names the files, and mends them.

Debian 13 with UEFI and GPT on SCSI, the DPSR disk on SCSI as well, where a
stray write can be made below the file systems.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from core.run import run
from images import cache
from images.guest import Guest
from images.job import Result
from images.recipe import Recipe
from tests.support import disk_image, scenario
from tests.support.disk_image import Part
from tests.support.scenario import DPSR, Story

pytestmark = [pytest.mark.full, pytest.mark.timeout(3000)]

RECIPE: Final = Recipe(13, "uefi", "gpt", bus="scsi")
ON_ESP: Final = "/boot/efi/EFI/damaged.bin"
MARK: Final = b"The ESP has this file. "
FILES: Final = f"""
yes '{MARK.decode()}' | tr -d '\\n' | head -c 9000 > {ON_ESP}
mkdir -p /srv/data; head -c 700000 /dev/urandom > /srv/data/precious
head -c 300000 /dev/urandom > /srv/data/rewritten; sync
"""
BLOCK: Final = 4096
VICTIMS: Final = ("/srv/data/precious", "/usr/bin/bash", "/srv/data/rewritten")


@dataclass(slots=True)
class Day:
    """Each part is good once the fixture has run."""

    story: Story
    said: dict[str, Result] = field(default_factory=dict)
    found: dict[str, dict[str, Any]] = field(default_factory=dict)
    pictures: dict[str, Path] = field(default_factory=dict)
    flipped: dict[str, int] = field(default_factory=dict)
    """Where in the root slot a bit was flipped, in bytes, by file."""
    left: dict[str, str] = field(default_factory=dict)


def verify(day: Day, guest: Guest, name: str, *options: str) -> None:
    day.said[name] = scenario.dpsr(guest, "verify", "--json", *options)
    out = day.said[name].out
    day.found[name] = json.loads(out) if out else {}


def first_block(image: Path, part: Part, name: str) -> int:
    """Where in its slot a file begins, in bytes, says debugfs."""
    place = f"{image}?offset={part.start}"
    return int(run("debugfs", "-R", f"bmap {name} 0", place).split()[-1]) * BLOCK


def place_of(mark: bytes, image: Path, part: Part) -> int:
    """Where in its slot, in bytes, the first block of 4 KiB begins that lies in this content."""
    with image.open("rb") as stream:
        stream.seek(part.start)
        return stream.read(part.end - part.start).index(mark) // BLOCK * BLOCK + BLOCK


def flip(guest: Guest, part: Part, at: int) -> None:
    """A stray write: one byte of the disk changes below whatever knows of it."""
    guest.sh(
        f"disk=/dev/$(lsblk -dno NAME,SERIAL | awk '$2 == \"{DPSR}\" {{print $1}}'); "
        "python3 -c 'import os, sys, mmap; "
        "f = os.open(sys.argv[1], os.O_RDWR | os.O_DIRECT); b = mmap.mmap(-1, 4096); "
        f"os.preadv(f, [b], {part.start + at}); b[77] ^= 4; os.pwritev(f, [b], {part.start + at})' "
        "$disk"
    )


@pytest.fixture(scope="module")
def day() -> Iterator[Day]:
    with cache.scratch() as folder:
        day = Day(story := scenario.new_story(RECIPE, folder, "scsi"))
        with scenario.working(story.sample, [scenario.own(story)]) as guest:
            scenario.settings(guest)
            guest.sh(FILES)
            said = scenario.dpsr(guest, "prepare", DPSR, "--yes")
            assert said.status == 0, said.err
            verify(day, guest, "first")
            guest.sh("head -c 5000000 /dev/urandom > /srv/data/new; sync")
            said = scenario.dpsr(guest, "update")
            assert said.status == 0, said.err
            verify(day, guest, "updated")
            day.pictures["good"] = image = scenario.picture(story, guest, "good")
            root = disk_image.table(image).named("dpsr-slot-root")
            for name in VICTIMS:
                day.flipped[name] = first_block(image, root, name)
                flip(guest, root, day.flipped[name])
            # In place: freed blocks would still hold on the primary what they held.
            efi = disk_image.table(image).named("dpsr-slot-efi")
            day.flipped[ON_ESP] = at = place_of(MARK, image, efi)
            flip(guest, efi, at)
            guest.sh("dd if=/dev/urandom of=/srv/data/rewritten bs=300000 count=1 conv=notrunc; "
                     "sync")  # fmt: skip
            verify(day, guest, "damaged")
            verify(day, guest, "repaired", "--repair")
            verify(day, guest, "after")
            said = scenario.dpsr(guest, "update", "--full")
            assert said.status == 0, said.err
            verify(day, guest, "healed")
            scenario.dpsr(guest, "rollback", "2", "--yes")
            verify(day, guest, "back")
            day.left = scenario.left_behind(guest)
            day.pictures["end"] = scenario.picture(story, guest, "end")
        yield day


def test_what_nobody_touched_is_good(day: Day) -> None:
    for name in ("first", "updated", "healed"):
        assert day.said[name].status == 0, day.said[name]
        assert day.found[name]["good"]
        assert day.found[name]["notes"] == []
        assert day.found[name]["checked_bytes"] > 400 << 20
    assert day.found["updated"]["generation"] == 2


def test_damaged_files_are_named(day: Day) -> None:
    assert day.said["damaged"].status == 74, day.said["damaged"]
    damaged = {each["what"]: each["offsets"] for each in day.found["damaged"]["damaged"]}
    assert damaged == {name: [at] for name, at in day.flipped.items()}
    assert "Nothing was mended" in day.said["damaged"].err


def test_what_is_unchanged_on_the_primary_is_mended(day: Day) -> None:
    assert day.said["repaired"].status == 74, day.said["repaired"]
    found = {each["what"]: each["mended_blocks"] for each in day.found["repaired"]["damaged"]}
    kept = {ON_ESP: 0, "/srv/data/rewritten": 0}
    assert found == {"/srv/data/precious": 1, "/usr/bin/bash": 1} | kept
    assert "2 blocks were mended, 2 were not" in day.said["repaired"].err
    assert {each["what"] for each in day.found["after"]["damaged"]} == set(kept)


def test_an_update_heals_the_rest(day: Day) -> None:
    assert day.found["healed"]["generation"] == 3
    assert day.found["healed"]["good"]


def test_back_in_the_older_generation_its_damage_is_known_still(day: Day) -> None:
    assert day.said["back"].status == 74, day.said["back"]
    assert day.found["back"]["generation"] == 2
    damaged = {each["what"] for each in day.found["back"]["damaged"]}
    assert damaged == {ON_ESP, "/srv/data/rewritten"}


def test_the_copy_is_sound(day: Day) -> None:
    image = day.pictures["end"]
    root = disk_image.table(image).named("dpsr-slot-root")
    run("e2fsck", "-fn", f"{image}?offset={root.start}", timeout=600)


def test_nothing_is_left_behind(day: Day) -> None:
    assert day.left == {}
