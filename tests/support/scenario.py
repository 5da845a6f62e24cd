# SPDX-License-Identifier: GPL-3.0-or-later
"""One story for many tests: a primary at work, `dpsr prepare` beside it, and the disks afterwards.

The primary starts from a kept snapshot, writes all the while, and its disk is kept as it was in
the freeze (a QEMU snapshot from outside), before, and after. The DPSR disk stays as `prepare` left
it; every later start takes a throw-away overlay.
"""

import contextlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from core.errors import ProgramTimeout
from core.run import run
from images import cache, disks
from images import recipe as recipes
from images import sample as samples
from images.guest import Guest
from images.job import Job, Result
from images.recipe import Recipe
from images.sample import Sample
from images.vm import MIB, Bus, DiskSpec, Firmware
from images.wire import Refusal
from tests.support import disk_image, facts, load, oracle_disk
from tests.support.emulator import wait_up
from tests.support.facts import Facts
from tests.support.oracle_disk import Verdict
from tests.support.push import ROOT, push_rooms

PRIMARY: Final = recipes.PRIMARY_SERIAL
DPSR: Final = "DPSR0001"
SIZE: Final = 5120 * MIB
POINTS: Final = "/run/dpsr-points"
SETTINGS: Final = "/etc/dpsr/dpsr.toml"
IN_SIGHT: Final = "hide = false\n"
"""Most tests look at the DPSR disk after a run; those of test_hide.py have it hidden."""
LOAD: Final = "/run/load.py"
PATIENCE: Final = 1200.0
"""Seconds for a whole `prepare` on a busy machine without KVM."""


def system(recipe: Recipe) -> Sample:
    """The sample system with our package installed; with DPSR_TEST_PUSH set, without it.

    Who works on the program sets that: its files are then copied into each guest, which is
    quicker than a new package each time.
    """
    built = samples.build(recipe, print)
    if "DPSR_TEST_PUSH" in os.environ:
        return built
    packages = sorted((ROOT / "dist").glob("dpsr_*_all.deb"), key=lambda path: path.stat().st_mtime)
    assert packages, "there is no package in dist/: run ./run deb first"
    return samples.installed(built, packages[-1], print)


@contextmanager
def working(sample: Sample, plug: Sequence[DiskSpec] = ()) -> Iterator[Guest]:
    """The primary, up, with our program in it."""
    with contextlib.ExitStack() as stack:
        if any(spec.bus == "sata" for spec in plug):  # cannot be plugged in while it is on
            guest = stack.enter_context(_booting(sample, plug))
        else:
            guest = stack.enter_context(samples.booted(sample, plug, print))
        if "DPSR_TEST_PUSH" in os.environ:
            push_rooms(guest)
            rule = ROOT / "packaging/udev/59-dpsr.rules"
            guest.put(f"/usr/lib/udev/rules.d/{rule.name}", rule.read_bytes())
            helper = ROOT / "packaging/udev/dpsr-hidden"
            guest.put(f"/usr/lib/udev/{helper.name}", helper.read_bytes(), mode=0o755)
            guest.sh("udevadm control --reload; mkdir -p /etc/dpsr; sync")
        guest.put(SETTINGS, IN_SIGHT)
        yield guest


@contextmanager
def _booting(sample: Sample, plug: Sequence[DiskSpec]) -> Iterator[Guest]:
    with cache.scratch() as folder:
        disk = disks.new_overlay(folder / "disk.qcow2", sample.disk)
        nvram = disks.new_vars(folder / "vars.qcow2", sample.vars) if sample.vars else None
        specs = [sample.spec(path=disk, overlay=False), *plug]
        with Guest(specs, sample.recipe.firmware, vars=nvram, kernel=sample.kernel) as guest:
            guest.wait_up(600)
            yield guest


@dataclass(slots=True)
class Story:
    """What one `prepare` came to; the paths are of images, good as long as the fixture."""

    sample: Sample
    folder: Path
    bus: Bus
    """Of the DPSR disk."""
    said: Result = field(default_factory=lambda: Result(-1, "", ""))
    """Of `dpsr prepare`."""
    seconds: float = 0.0
    loaded: dict[str, float] = field(default_factory=dict)
    """What the load says of itself."""
    before: dict[str, str] = field(default_factory=dict)
    after: dict[str, str] = field(default_factory=dict)
    """Files of the primary."""
    facts: Facts | None = None
    """Of the primary, after `prepare`."""
    left: dict[str, str] = field(default_factory=dict)
    """What `prepare` may have forgotten on the primary."""
    status: dict[str, Any] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    """By firmware: what the disk said while it held no complete copy."""
    frozen: list[Path] = field(default_factory=list)
    """The primary's disk as it was in each freeze that was kept (qcow2)."""

    @property
    def recipe(self) -> Recipe:
        return self.sample.recipe

    @property
    def dpsr(self) -> Path:
        """The DPSR disk (qcow2)."""
        return self.folder / "dpsr.qcow2"

    @property
    def vars(self) -> Path:
        """The primary's firmware variables, afterwards."""
        return self.folder / "vars.qcow2"

    @property
    def primary(self) -> Path:
        """The primary's disk after the last freeze that was kept."""
        return self.folder / f"after-{len(self.frozen)}.qcow2"

    def raw(self, name: str) -> Path:
        """`before`, `frozen` or `after` of the primary, or `dpsr`, as a raw image.

        The last three once for each freeze that was kept.
        """
        kept = "" if name == "before" else f"-{len(self.frozen)}"
        target = self.folder / f"{name}{kept}.raw"
        if not target.exists():
            source = {
                "before": self.sample.disk, "frozen": self.frozen[-1] if self.frozen else None,
                "after": self.primary, "dpsr": self.dpsr,
            }[name]  # fmt: skip
            assert source is not None, "no freeze was kept"
            disk_image.raw(source, target)
        return target

    @property
    def folders(self) -> list[str]:
        """Where the load writes: on each ext4 file system."""
        return ["/var/lib/load", *(["/boot/load"] if self.recipe.boot_partition else [])]

    @property
    def mounts(self) -> list[str]:
        """Mount points that the copy must have."""
        boot = ["/boot"] if self.recipe.boot_partition else []
        return ["/", *boot, *(["/boot/efi"] if self.recipe.firmware == "uefi" else [])]

    @property
    def swaps(self) -> int:
        """How many swap partitions the copy must use."""
        return int(self.recipe.swap == "partition")

    def old_names(self) -> set[str]:
        """Every name by which the primary and what is on it can be called."""
        image = self.raw("before")
        table = disk_image.table(image)
        names = {PRIMARY, table.guid}
        for part in table.parts:
            seen = disk_image.probe(image, part)
            names |= {part.guid, seen.get("UUID", ""), seen.get("LABEL", "")}
            if table.kind == "mbr":
                names.add(f"{table.guid}-{part.number:02}")
        return names - {""}

    def spec(self, bus: Bus | None = None, **changes: Any) -> DiskSpec:
        """The DPSR disk as a throw-away overlay, on its own bus or another one."""
        return replace(DiskSpec(self.dpsr, bus or self.bus, DPSR), **changes)

    def beside(self, **changes: Any) -> DiskSpec:
        """The primary as it was when it was switched off, as a throw-away overlay."""
        return replace(DiskSpec(self.primary, self.recipe.bus, PRIMARY), **changes)


def new_story(recipe: Recipe, folder: Path, bus: Bus, size: int = SIZE) -> Story:
    story = Story(system(recipe), folder, bus)
    disks.new_disk(story.dpsr, size)
    return story


def own(story: Story) -> DiskSpec:
    """The DPSR disk itself: what is written to it stays."""
    return story.spec(overlay=False)


def settings(guest: Guest) -> None:
    """What a person would edit: no long wait for quiet, a freeze that lasts while a test looks."""
    quick = "quiet_for = 1.0\nquiet_wait = 3.0\nmax_freeze = 30.0\n"
    guest.put(SETTINGS, quick + IN_SIGHT)


# --- running dpsr ---------------------------------------------------------------------------------


def dpsr(guest: Guest, *arguments: str, timeout: float = PATIENCE) -> Result:
    """Run dpsr to its end, however it ends."""
    return start(guest, *arguments).wait(timeout, ok=None)


def start(guest: Guest, *arguments: str) -> Job:
    """Start dpsr, stopping at the points that `hold` names."""
    return guest.start("env", f"DPSR_TEST_POINTS={POINTS}", "dpsr", *arguments)


def hold(guest: Guest, *points: str) -> None:
    """From now on stop at these points only."""
    guest.sh(f"rm -rf {POINTS}; mkdir -p {POINTS}; cd {POINTS}; touch {' '.join((*points, '.'))}")


def let_go(guest: Guest, point: str) -> None:
    guest.sh(f"rm -f {POINTS}/{point}")


def wait_for(guest: Guest, job: Job, point: str, timeout: float = PATIENCE) -> None:
    """Wait until the program stands at a point. Fails when it ends before."""
    deadline = time.monotonic() + timeout
    while True:
        with contextlib.suppress(Refusal):
            guest.get(f"{POINTS}/{point}.reached")
            return
        ended = job.poll()
        assert ended is None, f"it ended before the point {point}: {ended}"
        assert time.monotonic() < deadline, f"the point {point} was not reached in {timeout} s"
        time.sleep(0.1)


def start_load(guest: Guest, folders: Sequence[str]) -> Job:
    guest.sh("rm -f /run/load.stop")
    guest.put(LOAD, Path(load.__file__).read_bytes())
    return guest.start("python3", LOAD, "run", *folders)


def stop_load(guest: Guest, job: Job) -> dict[str, float]:
    guest.sh("touch /run/load.stop")
    found: dict[str, float] = json.loads(job.wait(120).out)
    return found


def check_load(guest: Guest, folders: Sequence[str]) -> dict[str, int]:
    """Fails with what was not one instant."""
    guest.put(LOAD, Path(load.__file__).read_bytes())
    found: dict[str, int] = json.loads(guest.run("python3", LOAD, "check", *folders).out)
    return found


LEFT: Final = {
    "device mapper": "dmsetup ls 2>/dev/null | grep -v 'No devices'",
    "loops": "losetup --list --noheadings",
    "mounts": "findmnt --list --noheadings -o TARGET | grep dpsr",
    "tracing": "ls -d /sys/kernel/tracing/instances/dpsr* 2>/dev/null",
    "units": "systemctl list-units --all --plain --no-legend 'dpsr*' "
    " | grep -v -e drill -e started -e guard -e boots",
    "processes": "pgrep -af 'sbin/dpsr|partclone|watchdog.py' | grep -v pgrep",
    "inhibitors": "systemd-inhibit --list --no-legend 2>/dev/null | grep -i dpsr",
    "locked": "test ! -e /run/dpsr/lock || flock -n /run/dpsr/lock true || echo held",
    "frozen": "for m in / /boot; do echo > $m/.w; rm $m/.w; done",
}
"""What a run that ended must not leave behind: each prints nothing, and ends."""


def left_behind(guest: Guest) -> dict[str, str]:
    """By name, all that a `dpsr` that has ended left in the guest, a freeze included."""
    script = "".join(f"echo '@{name}'; ({what}) 2>&1 || :\n" for name, what in LEFT.items())
    guest.put("/run/left.sh", script)
    job = guest.start("sh", "-c", "sh /run/left.sh > /run/left.txt")
    try:
        job.wait(30)
    except ProgramTimeout as late:  # a write to a frozen file system does not end
        return {"frozen": f"{late} {guest.get('/run/left.txt').decode()}"}
    said = dict(part.split("\n", 1) for part in guest.get("/run/left.txt").decode().split("@")[1:])
    assert said.keys() == LEFT.keys(), said
    return {name: text.strip() for name, text in said.items() if text.strip()}


# --- the story ------------------------------------------------------------------------------------


def prepare(story: Story, guest: Guest) -> None:
    """Run `dpsr prepare` under load up to its end; the primary's disk is kept as frozen.

    The guest is switched off afterwards.
    """
    settings(guest)
    story.before = facts.files(guest)
    job = start_load(guest, story.folders)
    run_kept(story, guest, "prepare", DPSR, "--yes")
    story.loaded = stop_load(guest, job)
    assert story.said.status == 0, f"prepare: {story.said.out}\n{story.said.err}"
    story.left = left_behind(guest)
    story.facts = facts.ask(guest)
    story.status = json.loads(dpsr(guest, "status", "--json").out)
    story.after = facts.files(guest)
    switch_off(story, guest)


def run_kept(story: Story, guest: Guest, *arguments: str) -> Result:
    """Run dpsr to its end, however it ends; the primary's disk is kept as it is in the freeze."""
    begun = time.monotonic()
    hold(guest, "frozen")
    job = start(guest, *arguments)
    wait_for(guest, job, "frozen")
    keep_frozen(story, guest)
    let_go(guest, "frozen")
    story.said = job.wait(PATIENCE, ok=None)
    story.seconds = time.monotonic() - begun
    return story.said


def switch_off(story: Story, guest: Guest) -> None:
    """Switch the primary off, and keep its disk and its firmware's variables."""
    guest.poweroff()
    if guest.vars is not None:
        disks.new_vars(story.vars, guest.vars)
    for number, kept in enumerate(story.frozen, 1):
        after = story.folder / f"after-{number}.qcow2"
        run("qemu-img", "rebase", "-u", "-F", "qcow2", "-b", str(kept), str(after))


def keep_frozen(story: Story, guest: Guest) -> None:
    """Keep the primary's disk as it is now; from now on what is written goes to another file."""
    spec = next(spec for spec in guest.disks if spec.serial == PRIMARY)
    with halted(guest):
        kept = story.folder / f"frozen-{len(story.frozen) + 1}.qcow2"
        os.link(guest.file_of(PRIMARY), kept)
        story.frozen.append(kept)
        guest.monitor.command(
            "blockdev-snapshot-sync",
            device="disk-s0-file" if spec.bus == "sata" else "disk-0-file",
            snapshot_file=str(story.primary),
            format="qcow2",
        )
    there = replace(spec, path=story.primary, overlay=False)
    guest.disks[guest.disks.index(spec)] = there


@contextmanager
def halted(guest: Guest) -> Iterator[None]:
    """Within, nothing moves in the guest, and its disks' files are up to date."""
    guest.monitor.command("stop")
    try:
        yield
    finally:
        guest.monitor.command("cont")


def picture(story: Story, guest: Guest, name: str) -> Path:
    """The DPSR disk as it is now, as a raw image; the guest may run."""
    with halted(guest):
        return disk_image.raw(guest.file_of(DPSR), story.folder / f"{name}.raw")


def judge(story: Story, generation: int = 1, *, chained: bool = True) -> Verdict:
    """Ask the oracle about the last freeze that was kept and the DPSR disk since."""
    scratch = story.folder / f"oracle-{len(story.frozen)}"
    scratch.mkdir()
    frozen, dpsr_ = story.raw("frozen"), story.raw("dpsr")
    return oracle_disk.compare(frozen, dpsr_, scratch, generation, chained=chained)


@contextmanager
def started(
    story: Story, specs: Sequence[DiskSpec], firmware: Firmware, nvram: Path | None = None
) -> Iterator[Guest]:
    """Switch a machine on with these disks and wait until its system is up.

    `nvram`: firmware variables to begin with; None: empty ones.
    """
    with contextlib.ExitStack() as stack:
        given = None
        if nvram is not None:
            given = story.folder / f"vars-{time.monotonic_ns()}.qcow2"
            disks.new_vars(given, nvram)
            stack.callback(given.unlink)
        guest = stack.enter_context(Guest(specs, firmware, vars=given, kernel=story.sample.kernel))
        wait_up(guest)
        yield guest
