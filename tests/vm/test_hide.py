# SPDX-License-Identifier: GPL-3.0-or-later
"""The DPSR disk is out of sight between two runs: detached, on SCSI, NVMe and virtio.

One machine. Its DPSR disk is on SCSI; images of it with serial numbers of their own, recorded as
further sets, are plugged in on the other buses.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

import pytest

from core.run import run
from images import cache, disks
from images.guest import Guest
from images.recipe import Recipe
from images.vm import MIB, Bus, DiskSpec
from tests.support import facts, scenario
from tests.support.scenario import DPSR, SETTINGS, Story

pytestmark = [pytest.mark.full, pytest.mark.timeout(3000)]

RECIPE: Final = Recipe(13, "uefi", "gpt", bus="scsi")
QUICK: Final = "quiet_for = 1.0\nquiet_wait = 3.0\nmax_freeze = 30.0\n"
OTHERS: Final[dict[str, tuple[Bus, str]]] = {
    "nvme": ("nvme", "DPSRNVME"), "virtio": ("virtio", "DPSRVIRTIO"),
}  # fmt: skip
UNKNOWN: Final = "UNKNOWN1"
VAULT: Final = "PARTNAME=dpsr-vault /sys/class/block/*/uevent"
"""For grep: partitions that the kernel shows. lsblk goes by udev's database."""
TRACES: Final = """
lsblk --noheadings --output NAME,SERIAL,PARTLABEL | grep -e DPSR -e dpsr- || :
ls -l /dev/disk/by-*/ | grep -i -e DPSR || :
blkid | grep -i dpsr || :
udevadm info --export-db | grep -e 'E: .*DPSR' -e PARTNAME=dpsr || :
grep dpsr /proc/*/mountinfo || :
"""
"""Whatever the system shows of any DPSR disk."""


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Story, Guest]]:
    """`dpsr prepare`, with nothing set that would leave the disk in sight."""
    with cache.scratch() as folder:
        story = scenario.new_story(RECIPE, folder, "scsi")
        with scenario.working(story.sample, [scenario.own(story)]) as guest:
            guest.put(SETTINGS, QUICK)
            said = scenario.dpsr(guest, "prepare", DPSR, "--yes")
            assert said.status == 0, f"{said.status}: {said.out}\n{said.err}"
            assert "Attention" not in said.err, said.err
            yield story, guest


@pytest.fixture
def guest(pair: tuple[Story, Guest]) -> Guest:
    return pair[1]


def status(guest: Guest, name: str = "system") -> dict[str, Any]:
    said = scenario.dpsr(guest, "status", "--json", "--name", name)
    found: dict[str, Any] = json.loads(said.out)
    return found


def is_hidden(guest: Guest) -> None:
    """Nothing of any DPSR disk is in sight, and nothing was left behind."""
    assert guest.sh(TRACES) == ""
    assert scenario.left_behind(guest) == {}


def wait_hidden(guest: Guest, *names: str, timeout: float = 120) -> None:
    """Until the disks of these sets are away."""
    files = " ".join(f"/run/dpsr/hidden/{name}.json" for name in names)
    guest.sh(
        f"until ls {files}; do sleep 0.2; done >/dev/null 2>&1\n"
        f"while grep -qs {VAULT}; do sleep 0.2; done",
        timeout=timeout,
    )


def test_after_prepare_it_is_not_there(guest: Guest) -> None:
    is_hidden(guest)
    seen = status(guest)
    assert (seen["hidden"], seen["hidden_how"], seen["present"]) == (True, "detached", True), seen
    assert (seen["state"], seen["generation"], seen["healthy"]) == ("clean", 1, True), seen
    is_hidden(guest)  # nobody brought it back to say so
    said = scenario.dpsr(guest, "status")
    assert said.status == 0
    assert "hidden       yes" in said.out, said.out
    (listed,) = (
        each
        for each in json.loads(scenario.dpsr(guest, "disks", "--json").out)
        if each["serial"] == DPSR
    )
    assert "hidden" in json.dumps(listed), listed


def test_an_update_brings_it_back_for_itself_alone(guest: Guest) -> None:
    scenario.hold(guest, "copied")
    job = scenario.start(guest, "update")
    scenario.wait_for(guest, job, "copied")
    disk = guest.sh(f"basename $(dirname $(dirname $(readlink -f $(grep -ls {VAULT}))))").strip()
    links = guest.sh(f"ls -l /dev/disk/by-*/ | grep -e '/{disk}[0-9]*$' || :")
    known = guest.sh(f"for d in /dev/{disk}*; do udevadm info --query=property $d; done")
    scenario.let_go(guest, "copied")
    said = job.wait(scenario.PATIENCE, ok=None)
    assert said.status == 0, f"{said.status}: {said.out}\n{said.err}"
    assert links == ""
    assert "ID_FS_" not in known, known
    assert known.count("SYSTEMD_READY=0") == known.count("UDISKS_IGNORE=1") > 4, known
    is_hidden(guest)
    assert status(guest)["generation"] == 2


def test_to_look_leaves_it_hidden(guest: Guest) -> None:
    said = scenario.dpsr(guest, "history", "--json")
    assert [each["generation"] for each in json.loads(said.out)] == [2, 1]
    is_hidden(guest)
    said = scenario.dpsr(guest, "switch", "status", "--json")
    assert json.loads(said.out)["next"] == "primary", said.err
    assert scenario.dpsr(guest, "card", "--output", "/root/card.html").status == 0
    page = guest.get("/root/card.html").decode()
    assert DPSR in page
    assert "SCSI target 0, LUN 0" in page
    is_hidden(guest)


def test_it_can_be_switched_to_and_back(guest: Guest) -> None:
    for to, once in (("dpsr", True), ("primary", False)):
        said = scenario.dpsr(guest, "switch", to, *(["--once"] if once else []))
        assert said.status == 0, said.err
        assert json.loads(scenario.dpsr(guest, "switch", "status", "--json").out)["next"] == to
        is_hidden(guest)


def test_an_update_that_is_refused_hides_it_again(guest: Guest) -> None:
    guest.sh(f"sed -i 's/^max_change = .*/max_change = 1/' {SETTINGS}")
    guest.sh("head -c 60M /dev/urandom > /srv/much; sync")
    said = scenario.dpsr(guest, "update")
    assert said.status == 43, f"{said.status}: {said.err}"
    is_hidden(guest)
    guest.sh(f"sed -i 's/^max_change = .*/max_change = 30/' {SETTINGS}; rm /srv/much")


def test_so_does_one_that_is_ended(guest: Guest) -> None:
    scenario.hold(guest, "copied")
    job = scenario.start(guest, "update")
    scenario.wait_for(guest, job, "copied")
    guest.sh(f"kill -TERM {job.pid}; rm {scenario.POINTS}/copied")
    said = job.wait(scenario.PATIENCE, ok=None)
    assert said.status == 143, f"{said.status}: {said.err}"
    is_hidden(guest)
    assert (status(guest)["state"], status(guest)["generation"]) == ("clean", 2)


def test_and_one_that_is_killed_leaves_it_to_a_unit(guest: Guest) -> None:
    scenario.hold(guest, "overlaid")  # with overlays on it, which hold it
    job = scenario.start(guest, "update")
    scenario.wait_for(guest, job, "overlaid")
    guest.sh(f"kill -KILL {job.pid}")
    wait_hidden(guest, "system")
    seen = status(guest)
    assert (seen["state"], seen["hidden_how"]) == ("updating", "detached"), seen
    scenario.hold(guest)
    said = scenario.dpsr(guest, "update")
    assert said.status == 0, f"{said.status}: {said.err}"
    is_hidden(guest)
    assert status(guest)["generation"] == 3


def test_revealed_it_is_read_only_and_hidden_again_in_time(guest: Guest) -> None:
    said = scenario.dpsr(guest, "reveal", "--for", "45s", "--json")
    assert said.status == 0, f"{said.status}: {said.err}"
    found = json.loads(said.out)
    disk, vault = found["path"], found["partitions"][-1]["path"]
    assert found["partitions"][-1]["name"] == "dpsr-vault"
    assert guest.sh(f"blockdev --getro {disk} {vault}") == "1\n1\n"
    assert guest.run("dd", "if=/dev/zero", f"of={vault}", "count=1", ok=None).status != 0
    assert DPSR in guest.sh("ls /dev/disk/by-id")
    seen = status(guest)
    assert (seen["hidden"], seen["present"], seen["generation"]) == (False, True, 3), seen
    assert seen["revealed_until"], seen
    wait_hidden(guest, "system")
    is_hidden(guest)
    assert status(guest)["hidden_how"] == "detached"


def test_what_is_in_use_is_not_hidden(guest: Guest) -> None:
    found = json.loads(scenario.dpsr(guest, "reveal", "--json").out)
    vault = found["partitions"][-1]["path"]
    guest.sh(f"mount -o ro,noload {vault} /mnt")
    said = scenario.dpsr(guest, "hide")
    assert said.status == 16, f"{said.status}: {said.err}"
    assert "/mnt" in said.err
    guest.sh("ls /mnt/manifest-*; umount /mnt")
    said = scenario.dpsr(guest, "hide")
    assert said.status == 0, f"{said.status}: {said.err}"
    is_hidden(guest)
    assert "hidden already" in scenario.dpsr(guest, "hide").out


def test_on_other_buses_as_soon_as_it_is_plugged_in(pair: tuple[Story, Guest]) -> None:
    story, guest = pair
    text = guest.get(SETTINGS).decode()
    own = text[text.index("[set.system]") :]
    for name, (_bus, serial) in OTHERS.items():
        more = own.replace("set.system", f"set.{name}").replace(f'"{DPSR}"', f'"{serial}"')
        text += "\n" + re.sub(r'^wwn = ".*"', 'wwn = ""', more, flags=re.MULTILINE)
    guest.put(SETTINGS, text)
    assert "hidden already" in scenario.dpsr(guest, "hide").out  # writes the list
    with scenario.halted(guest):
        for name in (*OTHERS, UNKNOWN):
            kept = str(story.folder / f"{name}.qcow2")
            convert = ("qemu-img", "convert", "--force-share", "-O", "qcow2")
            run(*convert, str(story.dpsr), kept, timeout=600)
    for name, (bus, serial) in OTHERS.items():
        guest.plug(DiskSpec(story.folder / f"{name}.qcow2", bus, serial, overlay=False))
    wait_hidden(guest, *OTHERS)
    is_hidden(guest)
    for name in OTHERS:
        assert status(guest, name)["hidden_how"] == "detached"
        said = scenario.dpsr(guest, "history", "--json", "--name", name)
        assert [each["generation"] for each in json.loads(said.out)] == [3, 2, 1], said.err
        is_hidden(guest)


def test_another_disk_is_left_alone(pair: tuple[Story, Guest]) -> None:
    """One with all that is on the DPSR disk, and one that has its serial number alone."""
    story, guest = pair
    image = disks.new_disk(story.folder / "replaced.raw", 64 * MIB, "raw")
    run("sfdisk", "--quiet", str(image), given=b"label: gpt\nsize=8M, name=dpsr-vault\n")
    for spec in (
        DiskSpec(story.folder / f"{UNKNOWN}.qcow2", "virtio", UNKNOWN),
        DiskSpec(image, "virtio", OTHERS["nvme"][1], format="raw", overlay=False),
    ):
        guest.plug(spec)
        disk = guest.wait_disk(spec.serial)
        guest.sh("udevadm settle; sleep 3")
        assert spec.serial in guest.sh("lsblk -dno SERIAL")
        assert spec.serial in guest.sh("ls /dev/disk/by-id")
        assert "DPSR_HIDDEN" not in guest.sh(f"udevadm info --query=property {disk}")
        guest.disks.insert(0, guest.disks.pop())  # the one that is pulled, of two with one number
        guest.unplug(spec.serial)


def test_after_a_restart_all_are_hidden(guest: Guest) -> None:
    """With the list in the initrd, as after the next upgrade of the kernel."""
    guest.sh("update-initramfs -u", timeout=1200)
    listed = guest.sh("lsinitramfs /boot/initrd.img-$(uname -r)", timeout=120)
    for name in ("etc/dpsr/hidden", "usr/lib/udev/dpsr-hidden", "usr/lib/udev/rules.d/59-dpsr"):
        assert name in listed
    said = scenario.dpsr(guest, "update")
    assert said.status == 0, f"{said.status}: {said.err}"
    guest.reboot(900)
    wait_hidden(guest, "system", *OTHERS)
    is_hidden(guest)
    seen = facts.ask(guest)
    assert (seen.system, seen.failed) == ("running", "")
    for name in ("system", *OTHERS):
        assert status(guest, name)["hidden_how"] == "detached", name
    said = scenario.dpsr(guest, "update")
    assert said.status == 0, f"{said.status}: {said.err}"
    is_hidden(guest)
    assert status(guest)["generation"] == 5


def test_a_disk_that_was_pulled_out_meanwhile_is_missed(guest: Guest) -> None:
    guest.unplug(OTHERS["virtio"][1])
    said = scenario.dpsr(guest, "history", "--name", "virtio")
    assert said.status == 71, f"{said.status}: {said.err}"
    assert "did not come back" in said.err


def test_forgotten_it_is_in_sight_again(guest: Guest) -> None:
    said = scenario.dpsr(guest, "forget", "--yes", "--name", "nvme")
    assert said.status == 0, f"{said.status}: {said.err}"
    disk = guest.wait_disk(OTHERS["nvme"][1])
    assert "DPSR_HIDDEN" not in guest.sh(f"udevadm settle; udevadm info --query=property {disk}")
    assert OTHERS["nvme"][1] in guest.sh("ls /dev/disk/by-id")


def test_the_copy_sees_its_own_disk(pair: tuple[Story, Guest]) -> None:
    story, guest = pair
    if guest.is_on:
        guest.poweroff()
    with scenario.started(story, [replace(story.spec(), bus="virtio")], "uefi") as copy:
        seen = facts.ask(copy)
        assert (seen.system, seen.failed) == ("running", ""), seen.log
        assert seen.faults(DPSR, ["/", "/boot/efi"], 1) == []
        assert "DPSR_HIDDEN" not in copy.sh("udevadm info --export-db")
        assert copy.run("test", "-e", "/etc/dpsr/hidden", ok=None).status == 1
        assert status(copy)["running_from"] == "dpsr"
