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
from images.vm import DirectKernel, DiskSpec
from tests.support.push import push_rooms

pytestmark = [pytest.mark.full, pytest.mark.timeout(900)]

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
            guest.put("/usr/lib/udev/rules.d/59-dpsr.rules", rule.read_bytes(), 0o644)
            guest.put(SCRIPT, (ROOT / "tests/support/fixup_in_guest.py").read_bytes())
            guest.sh("udevadm control --reload")
            monitor = guest.start("timeout", "600", "udevadm", "monitor", "--udev", "--property")
            out = guest.sh(f"PYTHONPATH=/usr/lib/dpsr python3 {SCRIPT} {SERIAL}", timeout=600)
            guest.sh(f"kill {monitor.pid}", ok=None)
            seen = json.loads(out)
            seen["events"] = monitor.wait(ok=None).out
            seen["release"], seen["disk"] = request.param, second
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


AGAIN: Final = """
import json, sys
from builder.fixup.prepared import fix_prepared
from core.claim import locked
from core.machine.find import find_disk
from core.machine.look import look
from core.namespace import go_private
from core.screen import PlainScreen
go_private()
machine = look()
disk = find_disk(machine, sys.argv[1])
with locked(disk.path):
    print(json.dumps(fix_prepared(machine, disk, PlainScreen()).files))
"""


def test_again_only_what_is_wrong_is_written(story: tuple[Guest, dict[str, Any]]) -> None:
    guest, seen = story
    guest.put("/root/again.py", AGAIN)
    root = seen["paths"]["root"]
    old = next(pair["old"]["uuid"] for pair in seen["pairs"] if pair["mountpoint"] == "/")

    def again() -> list[str]:
        said = guest.sh(f"PYTHONPATH=/usr/lib/dpsr python3 /root/again.py {SERIAL}", 300)
        return [str(name) for name in json.loads(said)]

    # Superblocks, descriptors and inode tables: whatever a mere mount would change.
    digest = f"for p in {' '.join(seen['paths'].values())}; do head -c 32M $p | sha256sum; done"
    before = guest.sh(digest, 300)
    assert again() == []
    assert guest.sh(digest, 300) == before
    guest.sh(
        f"mount {root} /mnt; echo UUID={old} /x ext4 noauto 0 0 >> /mnt/etc/fstab; umount /mnt"
    )
    assert again() == ["/etc/fstab"]
    assert again() == []
    guest.sh(f"e2fsck -fn {root}", 300)


TOO_MUCH: Final = """
import os, sys
from builder.fixup.overlay import overlay
from core.errors import FixupFailed
with overlay(sys.argv[1], "full", 1 << 20) as layer:
    layer.check()
    with open(layer.path, "r+b", buffering=0) as stream:
        try:
            stream.write(os.urandom(2 << 20))
            os.fsync(stream.fileno())
        except OSError:
            pass
    try:
        layer.check()
    except FixupFailed as reason:
        print("noticed:", reason)
"""


def test_an_overlay_that_runs_full_is_noticed(story: tuple[Guest, dict[str, Any]]) -> None:
    guest, seen = story
    before = guest.sh(f"sha256sum {seen['paths']['swap']}")
    guest.put("/root/full.py", TOO_MUCH)
    said = guest.sh(f"PYTHONPATH=/usr/lib/dpsr python3 /root/full.py {seen['paths']['swap']}")
    assert "noticed: The fix-ups of" in said
    assert guest.sh(f"sha256sum {seen['paths']['swap']}") == before


@pytest.mark.parametrize("point", ["overlaid", "edited"])
def test_a_run_that_is_ended_leaves_nothing(
    story: tuple[Guest, dict[str, Any]], point: str
) -> None:
    guest, seen = story
    if seen["release"] != 13:
        return  # the same code, and a minute more
    _hold(guest, point, "TERM")
    assert "dpsr-" not in guest.sh("dmsetup ls")
    assert "dpsr-" not in guest.sh("losetup -a")


def test_a_run_that_is_killed_leaves_what_the_next_one_removes(
    story: tuple[Guest, dict[str, Any]],
) -> None:
    guest, seen = story
    if seen["release"] != 13:
        return
    _hold(guest, "edited", "KILL")
    assert "dpsr-root" in guest.sh("dmsetup ls")
    clean = "from builder.fixup.overlay import clean_leftovers; print(clean_leftovers())"
    said = guest.sh(f"PYTHONPATH=/usr/lib/dpsr python3 -c '{clean}'")
    assert "dpsr-root" in said
    assert "dpsr-" not in guest.sh("dmsetup ls")
    assert "dpsr-" not in guest.sh("losetup -a")


def _hold(guest: Guest, point: str, signal: str) -> None:
    """Run it until `point` is reached, then end it with `signal`."""
    guest.sh(f"rm -rf /run/points; mkdir /run/points; touch /run/points/{point}")
    job = guest.start(
        "env", "DPSR_TEST_POINTS=/run/points", "PYTHONPATH=/usr/lib/dpsr", "python3", SCRIPT, SERIAL
    )
    guest.sh(
        f"timeout 300 sh -c 'until [ -e /run/points/{point}.reached ]; do sleep .2; done'", 320
    )
    assert b"/run/dpsr" not in guest.get("/proc/1/mountinfo")
    assert "dm-" not in guest.sh("ls -l /dev/disk/by-uuid /dev/disk/by-label")
    guest.sh(f"kill -{signal} {job.pid}")
    assert job.wait(60, ok=None).status != 0


def test_an_initrd_that_lacked_the_driver_starts_the_copy(
    story: tuple[Guest, dict[str, Any]], tmp_path: Path
) -> None:
    """The last test of a guest: it is switched off, and its copy started on another bus."""
    guest, seen = story
    if seen["release"] != 12:
        return  # Debian 13's was made with MODULES=most
    root, boot = seen["paths"]["root"], seen["paths"]["boot"]
    guest.sh(f"mount -o ro {root} /mnt; mount -o ro {boot} /mnt/boot")
    for name in ("vmlinuz", "initrd.img"):
        path = guest.sh(f"ls /mnt/boot/{name}-*").strip()
        (tmp_path / name).write_bytes(guest.get(path))
    hook = guest.sh("cat /mnt/etc/initramfs-tools/hooks/dpsr-drivers")
    assert "virtio_blk" in hook
    guest.sh("umount -R /mnt")
    guest.poweroff()
    new = next(pair["new"]["uuid"] for pair in seen["pairs"] if pair["mountpoint"] == "/")
    kernel = DirectKernel(
        tmp_path / "vmlinuz", tmp_path / "initrd.img", f"root=UUID={new} ro console=ttyS0"
    )
    with Guest([DiskSpec(seen["disk"], "virtio", SERIAL)], "bios", direct=kernel) as copy:
        assert copy.wait_up(300) == "running"
        text = copy.sh("cat /proc/swaps; lsblk -nro UUID,MOUNTPOINT")
        assert all(pair["new"]["uuid"] in text for pair in seen["pairs"])
        assert "/dev/vda" in text, "its swap is on"
        copy.sh("update-initramfs -u && lsinitramfs /boot/initrd.img-* > /run/list", 300)
        listed = copy.sh("cat /run/list")
        assert "virtio_scsi.ko" in listed
        assert "virtio_blk.ko" in listed
