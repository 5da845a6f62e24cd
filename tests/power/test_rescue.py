# SPDX-License-Identifier: GPL-3.0-or-later
"""The power fails in an update and the primary is gone: the DPSR disk comes up by itself.

GRUB starts the rescue system, which takes the update back and goes on into the copy. Nobody
presses a key.
"""

import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from images import cache, disks
from images.guest import Guest
from images.recipe import Recipe
from images.vm import DiskSpec, Firmware
from recovery.handover import GOES_ON, RESTARTS
from tests.support import checks, disk_image, facts, rescue_disk, scenario
from tests.support.checks import none_of
from tests.support.emulator import wait_up
from tests.support.rescue_bench import READY, UPDATED, Bench
from tests.support.scenario import DPSR, PRIMARY

pytestmark = pytest.mark.timeout(1800)

REPAIRING = "The last backup was interrupted"
REPAIRED = "the copy is complete again"
ASKS = "asks"
QUESTION = "What shall be done"
CUTS = int(os.environ.get("DPSR_CUTS", "100"))
"""Of a soak."""


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with cache.scratch() as folder:
        story = scenario.new_story(Recipe(13, "uefi", "gpt", bus="scsi"), folder, "scsi")
        with scenario.working(story.sample, [scenario.own(story)]) as guest:
            scenario.settings(guest)
            guest.sh("mkdir -p /srv/data; cd /srv/data; for i in $(seq 60); do "
                     "head -c $((i * 1000)) /dev/urandom > file-$i; done")  # fmt: skip
            said = scenario.dpsr(guest, "prepare", DPSR, "--yes")
            assert said.status == 0, said.err
            assert "no rescue system" not in said.err, said.err
            guest.sh("cd /srv/data; head -c 24000000 /dev/urandom > new; rm file-1*; sync")
            before = scenario.picture(story, guest, "first")
            guest.savevm(READY)
            begun = time.monotonic()
            said = scenario.dpsr(guest, "update")
            assert said.status == 0, said.err
            seconds = time.monotonic() - begun
            after = scenario.picture(story, guest, "second")
            guest.savevm(UPDATED)
            guest.pull_power()
            specs = [replace(spec, cache="writeback") for spec in guest.disks]
            yield Bench(story, guest, specs, before, after, seconds)


@pytest.fixture(scope="module")
def wreck(bench: Bench) -> Path:
    """The DPSR disk (qcow2) after the power failed in the middle of the update."""
    bench.begin()
    scenario.hold(bench.guest, "fixed")
    job = scenario.start(bench.guest, "update")
    scenario.wait_for(bench.guest, job, "fixed")
    return bench.cut().rename(bench.story.folder / "wreck.qcow2")


def machine(disk: DiskSpec, firmware: Firmware, bench: Bench) -> Guest:
    """A machine that has the DPSR disk alone."""
    return Guest([disk], firmware, kernel=bench.story.sample.kernel)


def comes_up(bench: Bench, guest: Guest) -> None:
    """It repairs itself, and the system that starts is the copy as it was before the update."""
    guest.console.expect(REPAIRED, timeout=300)
    with scenario.halted(guest):
        image = disk_image.raw(guest.file_of(DPSR), bench.story.folder / "repaired.raw")
    none_of(bench.differing(image))
    assert bench.state(image) == ("clean", 1)
    image.unlink()
    guest.wait_up(600)
    none_of(checks.copy_faults(bench.story, facts.ask(guest)))
    assert guest.sh("ls /srv/data | wc -l") == "60\n"
    assert "RUNNING FROM THE DPSR DISK" in scenario.dpsr(guest, "status").out


@pytest.mark.parametrize("firmware", ["uefi", "bios"])
def test_alone_it_repairs_itself_and_starts(bench: Bench, wreck: Path, firmware: Firmware) -> None:
    disk = bench.own(wreck, f"alone-{firmware}")
    with machine(disk, firmware, bench) as guest:
        guest.console.expect(REPAIRING, timeout=300)
        comes_up(bench, guest)
        assert "Trying another way" not in guest.said
        guest.poweroff()
    with machine(disk, firmware, bench) as guest:  # from now on it starts straight away
        guest.wait_up(600)
        assert REPAIRING not in guest.said


def test_cut_off_while_it_repairs_itself(bench: Bench, wreck: Path) -> None:
    disk = bench.own(wreck, "again")
    with machine(disk, "bios", bench) as guest:
        guest.console.expect(REPAIRING, timeout=300)
        guest.pull_power(kill=True)
    with machine(disk, "bios", bench) as guest:
        comes_up(bench, guest)


# --- the ways into the copy, and what a person can choose -------------------------------------


def said_to(bench: Bench, image: Path, name: str, words: str) -> DiskSpec:
    """A DPSR disk whose rescue system is started with more words."""
    raw = bench.picture(image, name)
    rescue_disk.say(raw, words)
    return replace(bench.story.spec(), path=raw, overlay=True)


@pytest.mark.full
def test_goes_on_with_the_kernel_of_the_rescue_system(bench: Bench, wreck: Path) -> None:
    """The kernel refuses kexec."""
    disk = said_to(bench, wreck, "no-kexec", "sysctl.kernel.kexec_load_disabled=1")
    with machine(disk, "bios", bench) as guest:
        guest.console.expect(REPAIRED, timeout=300)
        guest.console.expect(GOES_ON, timeout=300)
        guest.wait_up(600)
        assert "boot=dpsr" in guest.sh("cat /proc/cmdline")
        none_of(checks.copy_faults(bench.story, facts.ask(guest)))


@pytest.mark.full
@pytest.mark.parametrize("firmware", ["uefi", "bios"])
def test_restarts_from_the_same_disk(bench: Bench, wreck: Path, firmware: Firmware) -> None:
    """After a one-time choice in the firmware's menu, with a primary that looks healthy."""
    disk = said_to(bench, wreck, f"restart-{firmware}", "dpsr.restart")
    bench.begin()
    nvram = None
    specs = [disk]
    if firmware == "uefi":
        number = facts.ask(bench.guest).entry("DPSR recovery")
        bench.guest.run("efibootmgr", "--bootnext", number)
        bench.guest.poweroff()
        assert bench.guest.vars is not None
        nvram = disks.new_vars(bench.story.folder / "once.qcow2", bench.guest.vars)
        primary = next(spec for spec in bench.disks if spec.serial == PRIMARY)
        specs = [replace(primary, overlay=True), disk]
    with Guest(specs, firmware, vars=nvram, kernel=bench.story.sample.kernel) as guest:
        guest.console.expect(RESTARTS, timeout=400)
        wait_up(guest)
        seen = facts.ask(guest)
        root = next(mount["source"] for mount in seen.mounts if mount["target"] == "/")
        assert seen.disk_of(root) == DPSR
        assert guest.sh("ls /srv/data | wc -l") == "60\n"


@pytest.mark.full
def test_a_vault_that_is_lost_ends_in_a_menu(bench: Bench, wreck: Path) -> None:
    image = bench.picture(wreck, "no-vault")
    vault = disk_image.table(image).named("dpsr-vault")
    with open(image, "r+b") as stream:
        stream.seek(vault.start)
        stream.write(bytes(16 << 20))
    disk = replace(bench.story.spec(), path=image, overlay=True)
    with machine(disk, "bios", bench) as guest:
        guest.console.expect("could NOT be repaired", timeout=300)
        guest.console.expect(QUESTION, timeout=60)
        assert "dpsr update" in guest.said
        guest.console.send("1")  # again: it must end in the same way
        guest.console.expect("could NOT be repaired", timeout=60)
        guest.console.expect(QUESTION, timeout=60)
        guest.console.send("\x1b[A\x1b[A\r")  # the last but one: off
        guest.wait_off(60)


@pytest.mark.full
def test_an_older_copy_is_chosen_before_the_first_start(bench: Bench) -> None:
    disk = replace(bench.story.spec(), path=bench.after, overlay=True)
    direct = rescue_disk.direct(disk.path, bench.story.folder)
    older = replace(direct, command_line=f"{direct.command_line} dpsr.older")
    with Guest([disk], "bios", direct=older, kernel=bench.story.sample.kernel) as guest:
        guest.console.expect("Which copy", timeout=300)
        guest.console.expect("None of these", timeout=30)
        guest.console.send("\x1b[B\r")
        guest.console.expect("Yes, start that of", timeout=30)
        guest.console.send("2")
        guest.console.expect("Starting the copy", timeout=120)
        wait_up(guest)
        assert "new" not in guest.sh("ls /srv/data").split()
        assert guest.sh("ls /srv/data | wc -l") == "60\n"
        guest.reset()  # QEMU starts the rescue system again: now it is too late
        guest.console.expect("has been started since its last backup", timeout=300)
        guest.console.expect(QUESTION, timeout=60)


# --- random cuts ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Waiting:
    """A machine in whose rescue system nothing is plugged in yet, kept as it waits."""

    guest: Guest
    alone: DiskSpec

    @contextmanager
    def given(self, disk: DiskSpec) -> Iterator[Guest]:
        """The same, and then this disk is plugged in."""
        self.guest.pull_power(kill=True)
        self.guest.disks = [self.alone]
        self.guest.load = ASKS
        self.guest.power_on()
        self.guest.plug(disk)
        yield self.guest
        self.guest.pull_power(kill=True)


@pytest.fixture(scope="module")
def waiting(bench: Bench) -> Iterator[Waiting]:
    """The rescue system, started without its disk: it offers what can be done, and waits on."""
    folder = bench.story.folder
    disks.new_disk(folder / "blank.qcow2", 1 << 20)  # a snapshot needs a disk to lie on
    alone = DiskSpec(folder / "blank.qcow2", "virtio", "BLANK", overlay=False)
    direct = rescue_disk.direct(bench.before, folder)
    with Guest([alone], "bios", direct=direct, kernel=bench.story.sample.kernel) as guest:
        guest.console.expect("Waiting for the DPSR disk", timeout=300)
        guest.console.expect(QUESTION, timeout=300)
        guest.savevm(ASKS)
        yield Waiting(guest, alone)


def cut_off(bench: Bench, dice: random.Random, command: str) -> tuple[Path, float]:
    """Cut the power at any moment of a command; the DPSR disk is kept as a raw image."""
    bench.begin(READY if command == "update" else UPDATED)
    arguments = ("update",) if command == "update" else ("rollback", "1", "--yes")
    job = scenario.start(bench.guest, *arguments)
    begun = time.monotonic()
    deadline = begun + dice.uniform(0.5, 1.1 * bench.seconds)
    while time.monotonic() < deadline and job.poll() is None:
        time.sleep(0.05)
    moment = time.monotonic() - begun
    bench.guest.pull_power(kill=True)
    return bench.picture(bench.story.dpsr, "cut"), moment


def random_cut(bench: Bench, waiting: Waiting, seed: int, boot: Firmware | None = None) -> str:
    """Cut the power once; the DPSR disk alone must be N or N+1 afterwards. Returns how it was.

    By itself in its rescue system, whose disk comes late; with `boot`, from power-on to login.
    """
    dice = random.Random(seed)
    command = "rollback" if seed % 3 == 2 else "update"
    image, moment = cut_off(bench, dice, command)
    state, generation = bench.state(image)
    found = f"{command}, {moment:.1f} s: {state} {generation}"
    sys.stdout.write(f"cut {seed}, in {found}\n")
    disk = replace(bench.story.spec(), path=image, overlay=True, cache="writeback")
    if boot is not None:
        with machine(disk, boot, bench) as guest:
            wait_up(guest)
            assert (REPAIRED in guest.said) == (state != "clean")
            none_of(checks.copy_faults(bench.story, facts.ask(guest)))
            here = guest.sh("test -e /srv/data/new && echo yes || :").strip()
            assert here == ("yes" if (state, generation) == ("clean", 2) else "")
            return f"{command}: {state} {generation}"
    if state != "clean":
        with waiting.given(disk) as guest:
            guest.console.expect(REPAIRED, timeout=300)
            with scenario.halted(guest):
                repaired = bench.picture(guest.file_of(DPSR), "repaired")
        image.unlink()
        image = repaired
    ended, now = bench.state(image)
    assert ended == "clean"
    if now == 1 or command == "rollback":
        none_of(bench.differing(image, bench.after if now == 2 else bench.before))
    else:  # a generation 2 of its own: nothing was kept that it could be compared with
        none_of([said for part in slots(image) if (said := disk_image.e2fsck(image, part))])
    assert now == (generation if state == "clean" else 1)
    image.unlink()
    return f"{command}: {state} {generation}"


def slots(image: Path) -> list[disk_image.Part]:
    """The slots of an image that hold ext4."""
    return [
        part
        for part in disk_image.table(image).parts
        if part.name.startswith("dpsr-slot-")
        and disk_image.probe(image, part).get("TYPE") == "ext4"
    ]


@pytest.mark.full
@pytest.mark.parametrize("seed", range(10))
def test_cut_off_at_any_moment(bench: Bench, waiting: Waiting, seed: int) -> None:
    """One of the ten starts up to its login by UEFI, one by BIOS."""
    boots: dict[int, Firmware] = {4: "uefi", 5: "bios"}
    random_cut(bench, waiting, seed, boots.get(seed))


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_cut_off_a_hundred_times(bench: Bench, waiting: Waiting) -> None:
    """As many as DPSR_CUTS says; each tenth starts up to its login."""
    boots: dict[int, Firmware] = {0: "uefi", 10: "bios"}
    found = Counter(
        random_cut(bench, waiting, seed, boots.get(seed % 20)) for seed in range(100, 100 + CUTS)
    )
    sys.stdout.write(f"{sum(found.values())} cuts: {found}\n")
    assert found["update: updating 1"]
    assert found["rollback: rolling-back 2"]
