# SPDX-License-Identifier: GPL-3.0-or-later
"""Under Secure Boot: the DPSR disk alone repairs itself, goes on by kexec, and starts.

Debian 13 with UEFI on SCSI, with shim and signed GRUB as Debian's installer sets it up; the DPSR
disk on NVMe. The machine that it is alone in has Microsoft's keys, and never saw it before.
"""

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from core.model.state import State
from core.run import run
from grub.menu import MenuFacts, render
from grub.state import pack, parse
from images import cache
from images.drill import Order, drill
from images.guest import Guest
from images.recipe import Recipe
from images.signs import Verdict
from images.vm import DiskSpec
from recovery.handover import GOES_ON, RESTARTS
from tests.support import checks, disk_image, facts, grubdisk, scenario
from tests.support.checks import none_of
from tests.support.emulator import wait_up
from tests.support.grubdisk import GrubDisk
from tests.support.packages import Archive, install
from tests.support.scenario import DPSR, Story
from tests.support.uefi_program import program

pytestmark = [pytest.mark.full, pytest.mark.timeout(3600)]

RECIPE: Final = Recipe(13, "uefi", "gpt", bus="scsi")
FILES: Final = {
    "BOOTX64.EFI": "/usr/lib/shim/shimx64.efi.signed",
    "grubx64.efi": "/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed",
    "mmx64.efi": "/usr/lib/shim/mmx64.efi.signed",
}
STALE: Final = """
mkdir -p /run/stale; mount -t vfat {control} /run/stale
echo stale > /run/stale/EFI/BOOT/mmx64.efi; umount /run/stale
"""
GUID: Final = "6d7c1c4e-0000-4000-8000-00000000d150"
CLEAN: Final = State(
    "clean", gen=12, taken="2025-11-22T03:00:05+00:00", txid="0" * 32,
    slot="6f2c2b1e-5f0c-4f6a-9c1e-0d5b7a3e9f10",
)  # fmt: skip
BOUNDED: Final = """
import os
from core.run import start
from images.bounds import bounded
ours, theirs = os.pipe()
ask = (f"exec >&{theirs}; nice; group=/sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup); echo $group; "
       "cat $group/memory.max $group/cpu.weight")
child = start("setpriv", "--pdeathsig", "KILL", *bounded(64), "sh", "-c", ask, pass_fds=[theirs])
os.close(theirs)
with open(ours) as stream:
    print(stream.read())
raise SystemExit(child.wait())
"""
ENABLED: Final = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"


def well(guest: Guest, *words: str) -> str:
    said = scenario.dpsr(guest, *words)
    assert said.status == 0, f"{words}: {said.status}: {said.out}\n{said.err}"
    return said.err


@pytest.fixture(scope="module")
def story() -> Iterator[Story]:
    """Prepared, updated when one of its programs was stale, and cut off in the next update."""
    with cache.scratch() as folder:
        story = scenario.new_story(RECIPE, folder, "nvme")
        with scenario.working(story.sample, [scenario.own(story)]) as guest:
            scenario.settings(guest)
            archive = Archive(RECIPE.release)
            wanted = archive.missing(
                guest.get("/var/lib/dpkg/status"), "shim-signed", "grub-efi-amd64-signed"
            )
            install(guest, archive, *wanted)
            assert "for Secure Boot" in well(guest, "prepare", DPSR, "--yes")
            guest.sh(STALE.format(control=f"{guest.wait_disk(DPSR)}p2"))
            guest.sh("mkdir -p /srv/data; head -c 3000000 /dev/urandom > /srv/data/kept; sync")
            assert "Renewing shim" in well(guest, "update")
            story.facts = facts.ask(guest)
            story.after = {name: guest.sh(f"sha256sum < {path}") for name, path in FILES.items()}
            scenario.hold(guest, "fixed")
            guest.sh("rm /srv/data/kept; head -c 3000000 /dev/urandom > /srv/data/lost; sync")
            job = scenario.start(guest, "update")
            scenario.wait_for(guest, job, "fixed")
            guest.pull_power()
        yield story


def is_secure(guest: Guest) -> None:
    """As the firmware says, and as the kernel, which is locked down for it."""
    assert guest.get(ENABLED)[4] == 1
    assert "enabled" in guest.sh("mokutil --sb-state")
    assert "[none]" not in guest.sh("cat /sys/kernel/security/lockdown")


def test_the_programs_are_those_of_the_packages(story: Story) -> None:
    image = story.raw("dpsr")
    control = disk_image.table(image).named("dpsr-control")
    (folder := story.folder / "control").mkdir()
    found = disk_image.fat_tree(image, control, folder)
    boot = {
        name.removeprefix("/EFI/BOOT/"): f"{hashlib.sha256(data).hexdigest()}  -\n"
        for name, data in found.items()
        if name.startswith("/EFI/BOOT/")
    }
    assert boot == story.after
    assert found["/EFI/debian/grub.cfg"] == found["/grub/grub.cfg"]


def test_alone_it_repairs_itself_and_starts(story: Story) -> None:
    spec = replace(scenario.own(story), cache="writeback")
    with Guest([spec], "uefi", secure=True, kernel=story.sample.kernel) as guest:
        guest.console.expect("The last backup was interrupted", timeout=300)
        guest.console.expect("the copy is complete again", timeout=300)
        wait_up(guest)
        is_secure(guest)
        for other in (GOES_ON, RESTARTS, "Trying another way"):
            assert other not in guest.said, "it went on by kexec"
        none_of(checks.copy_faults(story, facts.ask(guest)))
        guest.sh("test -e /srv/data/kept; test ! -e /srv/data/lost")
        motd = guest.get("/run/motd.d/dpsr").decode()
        assert "RUNS FROM THE DPSR DISK" in motd
        assert "dpsr failback DISK" in motd
        assert guest.get("/etc/issue.d/dpsr.issue").decode() == motd
        guest.poweroff()

        guest.power_on()
        wait_up(guest)
        is_secure(guest)
        assert guest.said.count("The last backup was interrupted") == 1
        none_of(checks.copy_faults(story, facts.ask(guest)))
        assert "RUNNING FROM THE DPSR DISK" in scenario.dpsr(guest, "status").out
        guest.put("/run/bounded.py", BOUNDED)
        said = guest.sh("cd /usr/lib/dpsr; PYTHONPATH=. python3 /run/bounded.py").split()
        assert said[0] == "10"
        assert said[1].endswith(".scope")
        assert said[2:] == [str((64 + 512) << 20), "20"], (
            "what bounds the virtual machine of a drill"
        )
        guest.poweroff()


def test_a_drill_is_done_under_it(story: Story) -> None:
    """As of the disk of a machine that has Secure Boot on."""
    check = b"#!/bin/sh\nmokutil --sb-state | grep enabled && test -e /srv/data/kept\n"
    outcome = drill(Order(story.dpsr, secure_here=True, check=check))
    assert outcome.verdict is Verdict.BOOTED, (
        f"{outcome.verdict}: {outcome.says}\n{outcome.console}"
    )
    assert (outcome.secure, outcome.firmware, outcome.generation) == (True, "uefi", 2)
    assert outcome.report is not None
    assert outcome.report.checked


def test_what_nobody_signed_is_not_started(story: Story) -> None:
    image = story.raw("dpsr")
    control = disk_image.table(image).named("dpsr-control")
    unsigned = program(b"GRUB", signature=b"")
    run("mcopy", "-D", "o", "-i", f"{image}@@{control.start}", "-", "::EFI/BOOT/BOOTX64.EFI",
        given=unsigned)  # fmt: skip
    outcome = drill(Order(image, "uefi", secure=True))
    assert outcome.verdict is Verdict.NO_LOADER, f"{outcome.says}\n{outcome.console}"


def test_the_menu_is_as_large_as_without_it(folder: Path) -> None:
    """With a font that comes in the signed GRUB: it takes none from a disk."""
    archive = Archive(RECIPE.release)
    packages = ("shim-signed", "shim-helpers-amd64-signed", "grub-efi-amd64-signed")
    for deb in archive.fetch(*packages):
        run("dpkg-deb", "--extract", str(deb), str(folder))
    programs = {
        f"EFI/BOOT/{name}": (folder / path[1:]).read_bytes() for name, path in FILES.items()
    }
    menu = render(MenuFacts("web01", DPSR, GUID)) | programs
    disk = folder / "menu.img"
    slot = {"boot/grub/grub.cfg": "echo the copy was started\nhalt\n"}
    grubdisk.make(disk, GrubDisk(menu, pack(CLEAN), slot, CLEAN.slot))
    spec = DiskSpec(disk, "nvme", DPSR, overlay=False, format="raw")
    with Guest([spec], "uefi", secure=True, agent=False, memory_mib=256) as guest:
        guest.console.expect("executed automatically in 4s", timeout=120)
        picture = guest.screendump(folder / "menu.png").read_bytes()
        guest.console.expect("the copy was started", timeout=120)
        assert "prohibited" not in guest.said
        guest.wait_off(30)
    assert struct.unpack_from(">II", picture, 16) == (640, 480)
    assert parse(grubdisk.read_control(disk, "dpsr/state")).booted
