# SPDX-License-Identifier: GPL-3.0-or-later
"""The fix-ups in overlays, on a running Debian: nobody sees them, the copy is whole."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from images import cache, disks, sample
from images.guest import Guest
from images.recipe import Recipe
from images.vm import DiskSpec
from tests.support.push import push_rooms

pytestmark = pytest.mark.timeout(900)

ROOT: Final = Path(__file__).parents[2]
SCRIPT: Final = "/root/fixup_in_guest.py"
SERIAL: Final = "SECOND2"
RECIPES: Final = {
    13: Recipe(13, "uefi"),
    12: Recipe(12, "bios", "mbr", boot_partition=True, bus="scsi", modules="dep"),
}


@pytest.fixture(scope="module", params=[13, 12])
def story(request: pytest.FixtureRequest) -> Iterator[tuple[Guest, dict[str, Any]]]:
    """A guest in which the fix-ups were made, and what was seen meanwhile."""
    built = sample.build(RECIPES[request.param])
    with cache.scratch() as folder:
        second = disks.new_disk(folder / "second.qcow2", 6 << 30)
        spec = DiskSpec(second, "scsi", SERIAL, overlay=False)
        with sample.booted(built, [spec]) as guest:
            guest.wait_disk(SERIAL)
            push_rooms(guest)
            rule = ROOT / "packaging/udev/59-dpsr.rules"
            guest.put("/usr/lib/udev/rules.d/59-dpsr.rules", rule.read_bytes())
            guest.put(SCRIPT, (ROOT / "tests/support/fixup_in_guest.py").read_bytes())
            guest.sh("udevadm control --reload")
            monitor = guest.start("timeout", "600", "udevadm", "monitor", "--udev", "--property")
            out = guest.sh(f"PYTHONPATH=/usr/lib/dpsr python3 {SCRIPT} {SERIAL}", timeout=600)
            guest.sh(f"kill {monitor.pid}", ok=None)
            seen = json.loads(out)
            seen["events"] = monitor.wait(ok=None).out
            yield guest, seen


def _path(seen: dict[str, Any], pair: dict[str, Any]) -> str:
    return str(seen["paths"][pair["new"]["partlabel"].removeprefix("dpsr-slot-")])


def test_nobody_sees_the_overlays(story: tuple[Guest, dict[str, Any]]) -> None:
    _, seen = story
    old = {pair["old"]["uuid"] for pair in seen["pairs"]}
    before, after = seen["links_before"], seen["links_after"]
    assert {name: link for name, link in after.items() if name in old} == {
        name: link for name, link in before.items() if name in old
    }
    assert not any("dm-" in link for link in after.values())
    overlays = [event for event in seen["events"].split("\n\n") if "DM_NAME=dpsr-" in event]
    assert overlays, "udev was told of the overlays"
    assert not any(re.search(r"^ID_FS_|^DEVLINKS=.*by-uuid", e, re.MULTILINE) for e in overlays)
    assert "/run/dpsr" not in seen["mounts"]


def test_nothing_stays_and_nothing_was_written_through(story: tuple[Guest, dict[str, Any]]) -> None:
    _, seen = story
    assert "dpsr" not in seen["left"]
    assert "memfd" not in seen["left"]
    assert seen["origin_untouched"]


def test_it_stays_small(story: tuple[Guest, dict[str, Any]]) -> None:
    _, seen = story
    assert seen["peak_kib"] < 200 * 1024
    assert all(data < 32 << 20 and identity <= 1 << 20 for data, identity in seen["sizes"].values())
    assert all(identity > 0 for name, (_, identity) in seen["sizes"].items() if name != "efi")


def test_every_slot_is_whole_and_has_its_new_identity(story: tuple[Guest, dict[str, Any]]) -> None:
    guest, seen = story
    for pair in seen["pairs"]:
        mountpoint, fstype, new = pair["mountpoint"], pair["fstype"], pair["new"]
        path = _path(seen, pair)
        assert guest.sh(f"blkid -p -o value -s UUID {path}").strip() == new["uuid"], mountpoint
        assert guest.sh(f"blkid -p -o value -s LABEL {path}").strip() == new["label"]
        if fstype == "ext4":
            guest.sh(f"e2fsck -fn {path}", timeout=300)
        elif fstype == "vfat":
            guest.sh(f"fsck.fat -n {path}", timeout=60)


def test_no_file_that_boots_it_names_the_primary(story: tuple[Guest, dict[str, Any]]) -> None:
    guest, seen = story
    order = sorted(
        (pair for pair in seen["pairs"] if pair["mountpoint"]), key=lambda p: p["mountpoint"]
    )
    mounts = "".join(f"mount -o ro {_path(seen, p)} /mnt{p['mountpoint']};" for p in order)
    files = "/etc/fstab /boot/grub/grub.cfg /boot/grub/grubenv /etc/initramfs-tools/conf.d/*"
    text = guest.sh(f"{mounts} cd /mnt; cat {files.replace('/', './', 1).replace(' /', ' ./')};")
    guest.sh("umount -R /mnt")
    for pair in seen["pairs"]:
        assert pair["old"]["uuid"] not in text
        assert pair["new"]["uuid"] in text
    assert "hint" not in text
    assert "set root=" not in text
