# SPDX-License-Identifier: GPL-3.0-or-later
"""The slot of an ESP, on a running Debian: also more than an overlay can hold is brought over."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from images import cache, disks, sample
from images.guest import Guest
from images.recipe import Recipe
from images.vm import DiskSpec
from tests.support.push import push_rooms

pytestmark = [pytest.mark.full, pytest.mark.timeout(900)]

ROOT: Final = Path(__file__).parents[2]
SCRIPT: Final = "/root/esp_in_guest.py"
SERIAL: Final = "SECOND2"
ESP: Final = 128 << 20


@pytest.fixture(scope="module")
def guest() -> Iterator[Guest]:
    built = sample.build(Recipe(13, "uefi"))
    with cache.scratch() as folder:
        second = disks.new_disk(folder / "second.qcow2", 6 << 30)
        spec = DiskSpec(second, "scsi", SERIAL, overlay=False)
        with sample.booted(built, [spec]) as guest:
            guest.wait_disk(SERIAL)
            push_rooms(guest)
            rule = ROOT / "packaging/udev/59-dpsr.rules"
            guest.put("/usr/lib/udev/rules.d/59-dpsr.rules", rule.read_bytes(), 0o644)
            guest.put(SCRIPT, (ROOT / "tests/support/esp_in_guest.py").read_bytes())
            guest.sh("udevadm control --reload")
            yield guest


def run(guest: Guest, *arguments: str) -> dict[str, Any]:
    command = f"PYTHONPATH=/usr/lib/dpsr python3 {SCRIPT} {SERIAL} {' '.join(arguments)}"
    seen: dict[str, Any] = json.loads(guest.sh(command, timeout=400))
    assert seen["peak_kib"] < 200 * 1024
    return seen


def check(guest: Guest, slot: str) -> None:
    """The slot is whole, and holds what the ESP holds; nothing of ours is left."""
    guest.sh(f"fsck.fat -n {slot}")
    guest.sh(f"mount -o ro {slot} /mnt; diff -r /boot/efi /mnt; umount /mnt")
    assert "dpsr" not in guest.sh("dmsetup ls; losetup -a")


def test_more_than_an_overlay_can_hold(guest: Guest) -> None:
    check(guest, run(guest)["slot"])
    seen = run(guest, "45")
    check(guest, seen["slot"])
    assert seen["identity"] == [4096]
    assert seen["data"][0] < 40 << 20, "the last lot alone is kept in memory"
    assert seen["again"] == [0], "what is equal is not written again"

    # Nearly full: the old files have to go before the new ones come. Then all of it is taken back.
    seen = run(guest, "46", "back")
    assert 40 << 20 < seen["logged"] < ESP
    assert seen["as_before"]
    guest.sh(f"fsck.fat -n {seen['slot']}")
