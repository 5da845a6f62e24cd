# SPDX-License-Identifier: GPL-3.0-or-later
"""What must be true of a copy and of its primary, whatever their layout."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from images.guest import Guest
from tests.support import disk_image, facts, initrd, scenario
from tests.support.disk_image import Part, Table
from tests.support.facts import Facts
from tests.support.scenario import DPSR, PRIMARY, Story

MAY_CHANGE: Final = (
    r"/etc/dpsr(/.*)?",
    r"/var/lib/dpsr(/.*)?",
    r"/boot/grub/grub\.cfg",  # the entry that starts the DPSR disk, by Debian's own hook
    r"/etc/udev/rules\.d/.*dpsr.*",
    r"/var/log/.*",
    r"/var/lib/systemd/.*",
    r"/(var/)?tmp/.*",
    r"/(var/lib|boot)/load(/.*)?",  # what this test writes itself
    *((r"/usr/lib/.*__pycache__.*",) if "DPSR_TEST_PUSH" in os.environ else ()),
)
"""Names on the primary that `prepare` or a running system may change (DESIGN section 9)."""

EXTENDED: Final = {"0x05", "0x0f", "0x85"}
_CHUNK: Final = 8 << 20


def copy_faults(story: Story, seen: Facts) -> list[str]:
    """What is wrong with a system that ought to run from the DPSR disk, and from it alone."""
    return [
        *seen.faults(DPSR, story.mounts, story.swaps),
        *swap_file_faults(story, seen),
        *seen.names(story.old_names()),
        *resume_faults(seen),
        *nvram_faults(story, seen),
        *control_faults(story, seen),
    ]


def control_faults(story: Story, seen: Facts) -> list[str]:
    """Where systemd has mounted the control partition by itself."""
    on = {mount["target"]: mount["source"] for mount in seen.mounts}
    places = {"/efi", "/boot"} - set(story.mounts)
    return [f"{on[place]} is mounted at {place}" for place in places if place in on]


def nvram_faults(story: Story, seen: Facts) -> list[str]:
    """Boot entries that name the primary although it is not there."""
    if any(block["serial"] == PRIMARY for block in seen.blocks):
        return []
    return [f"{name} is in the NVRAM" for name in story.old_names() if name in seen.nvram]


def swap_file_faults(story: Story, seen: Facts) -> list[str]:
    files = [path for path in seen.swaps if not path.startswith("/dev/")]
    wanted = ["/swapfile"] if story.recipe.swap == "file" else []
    return [] if files == wanted else [f"swap files in use: {files}, not {wanted}"]


def resume_faults(seen: Facts) -> list[str]:
    """A hibernation image is never looked for outside the DPSR disk."""
    if seen.resume in {"", "0:0"}:
        return []
    number = next((b for b in seen.blocks if b.get("maj:min") == seen.resume), None)
    if number is not None and seen.disk_of(number["path"]) == DPSR:
        return []
    return [f"the kernel would resume from {seen.resume}"]


def primary_faults(story: Story, seen: Facts) -> list[str]:
    """What is wrong with a system that ought to run from the primary, and from it alone."""
    return [*seen.faults(PRIMARY, story.mounts, story.swaps), *swap_file_faults(story, seen)]


def initrd_faults(story: Story) -> list[str]:
    """Old names in the initrds of the copy, read as the kernel reads them."""
    image = story.raw("dpsr")
    table = disk_image.table(image)
    if story.recipe.boot_partition:
        part, folder = table.named("dpsr-slot-boot"), "/"
    else:
        part, folder = table.named("dpsr-slot-root"), "/boot"
    names = [n for n in disk_image.ext4_names(image, part, folder) if n.startswith("initrd.img-")]
    assert names, f"no initrd in {folder} of {part.name}"
    wrong = []
    for name in names:
        files = initrd.unpack(disk_image.ext4_file(image, part, f"{folder.rstrip('/')}/{name}"))
        assert "init" in files, f"{name} holds no init: {sorted(files)[:20]}"
        wrong += [
            f"{old} is in {path} of {name}"
            for path, content in files.items()
            for old in story.old_names() - {PRIMARY}
            if old.lower().encode() in content.lower()
        ]
    return wrong


def unpermitted(story: Story) -> list[str]:
    """Names on the primary that `prepare` should not have touched."""
    return [
        path
        for path in facts.changed(story.before, story.after)
        if not any(re.fullmatch(pattern, path) for pattern in MAY_CHANGE)
    ]


def disk_faults(story: Story) -> list[str]:
    """Where the primary's disk differs outside of file systems in use, and what is ill on it."""
    before, after = story.raw("before"), story.raw("after")
    old, new = disk_image.table(before), disk_image.table(after)
    wrong = [] if old == new else [f"the partition table became {new}, it was {old}"]
    # Swap and the mounted file systems move by themselves.
    same = [
        (part.start, part.end, kind)
        for part in old.parts
        if part.kind not in EXTENDED
        and (kind := disk_image.probe(before, part).get("TYPE", part.kind)) not in {"ext4", "swap"}
    ]
    for start, end, what in (*gaps(old, before.stat().st_size), *same):
        if (at := first_difference(before, after, start, end, fat=what == "vfat")) is not None:
            wrong.append(f"byte {at} of the primary differs, in {what} from {start} to {end}")
    for part in old.parts:
        was, now = (disk_image.probe(image, part) for image in (before, after))
        if was != now:
            wrong.append(f"partition {part.number} is {now}, it was {was}")
        if was.get("TYPE") == "ext4" and (said := disk_image.e2fsck(after, part)):
            wrong.append(f"partition {part.number}: {said}")
    return wrong


def gaps(table: Table, size: int) -> list[tuple[int, int, str]]:
    """What of a disk lies in no partition."""
    found = []
    at = 0
    real = [part for part in table.parts if part.kind not in EXTENDED]
    for part in sorted(real, key=lambda part: part.start):
        found.append((at, part.start, "a gap"))
        at = part.end
    return [gap for gap in (*found, (at, size, "the end")) if gap[0] < gap[1]]


def first_difference(one: Path, other: Path, start: int, end: int, *, fat: bool) -> int | None:
    """Where two disks first differ, between two places.

    In a FAT file system the day of the last access (written when a file is read) and the mark
    that it is mounted do not count.
    """
    with open(one, "rb") as left, open(other, "rb") as right:
        for at in range(start, end, _CHUNK):
            size = min(_CHUNK, end - at)
            left.seek(at)
            right.seek(at)
            a, b = left.read(size), right.read(size)
            places = [at + n for n in range(size) if a[n] != b[n]] if a != b else []
            for place in places:
                if not fat or ((place - start) % 32 not in {18, 19} and place - start != 0x41):
                    return place
    return None


def entry_faults(story: Story) -> list[str]:
    """Of the firmware: one entry is ours, and directly after those of the primary."""
    assert story.facts is not None
    entries = [text for _, text in story.facts.entries()]
    control = control_partition(story)
    ours = [at for at, text in enumerate(entries) if "DPSR recovery" in text]
    primary = disk_image.table(story.raw("before"))
    theirs = [at for at, text in enumerate(entries)
              if any(part.guid in text.lower() for part in primary.parts)]  # fmt: skip
    if len(ours) != 1 or not theirs:
        return [f"DPSR recovery is there {len(ours)} times, the primary {len(theirs)}: {entries}"]
    wrong = []
    if ours[0] != theirs[-1] + 1:
        wrong.append(f"DPSR recovery does not follow the primary's entries: {entries}")
    text = entries[ours[0]].lower()
    if f"hd(2,gpt,{control.guid}" not in text or "bootx64.efi" not in text:
        wrong.append(f"DPSR recovery does not name the control partition {control.guid}: {text}")
    return wrong


def control_partition(story: Story) -> Part:
    return disk_image.table(story.raw("dpsr")).named("dpsr-control")


def is_one_instant(story: Story, guest: Guest) -> None:
    """What the load had written is, on the copy, as it was at one moment."""
    found = scenario.check_load(guest, story.folders)
    assert found["volumes"] == len(story.folders)


def none_of(faults: Sequence[str]) -> None:
    """Fail with every fault that was found."""
    assert not faults, "\n" + "\n".join(faults)
