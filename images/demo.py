# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole story on virtual disks: a system runs, is copied, works on, is wrecked, comes back.

Everything happens to throw-away files: a real Debian with the real package, in QEMU.
"""

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from core.screen import duration
from images import cache, disks, sample
from images.console import text_of
from images.guest import Guest
from images.recipe import PRIMARY_SERIAL, Recipe
from images.stage import Stage
from images.vm import DiskSpec
from images.wire import GuestError

SERIAL: Final = "DPSR-DISK"
_ROOM: Final = 6 << 30
_BOOT: Final = 420.0
"""Seconds that a guest may take to start without KVM on a busy machine."""
_NOTES: Final = "/srv/work"
_WORK: Final = rf"""
mkdir -p {_NOTES}
for number in $(seq 1 200); do echo "order $number, $(date -Ins)" > {_NOTES}/order-$number; done
sqlite3 {_NOTES}/orders.db 'create table orders(id integer primary key, said text);'
sync
(while :; do
   sqlite3 {_NOTES}/orders.db "insert into orders(said) values(hex(randomblob(200)))"
   sleep 0.2
 done) >/dev/null 2>&1 &
"""
_MORE: Final = f"""
for number in $(seq 201 300); do echo "order $number, $(date -Ins)" > {_NOTES}/order-$number; done
"""
_SUMS: Final = f"cd {_NOTES} && sha256sum order-*"
_BROKEN: Final = re.compile(
    r"error: .*not found|Kernel panic|grub rescue>|you need to load the kernel"
)
_MENU: Final = re.compile(r"complete copy|Start the copy", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Moment:
    """One line of the timeline."""

    seconds: float
    """Since the machine was switched on with the DPSR disk alone."""
    what: str


@dataclass(frozen=True, slots=True)
class Told:
    """What the demonstration has shown."""

    timeline: tuple[Moment, ...]
    pictures: tuple[Path, ...]
    files: int
    """Files that were found again as they were."""


def demo(deb: Path, pictures: Path, stage: Stage) -> Told:
    """Play the story; raises GuestError, CommandFailed when it goes another way than it should.

    `pictures` is the folder for the screenshots.
    """
    pictures.mkdir(parents=True, exist_ok=True)
    with stage.act("A small Debian is built, with dpsr installed from its package"):
        system = sample.installed(sample.build(Recipe(), stage.note), deb, stage.note)
    with cache.scratch() as folder:
        blank = disks.new_disk(folder / "dpsr.qcow2", _ROOM)
        second = DiskSpec(blank, "scsi", SERIAL, overlay=False)
        with sample.booted(system, [second], stage.note) as guest:
            stage.watch(guest.console_log)
            sums = _copy(guest, stage)
            _wreck(guest, stage)
            return _come_back(guest, pictures, sums, stage)


def _copy(guest: Guest, stage: Stage) -> str:
    with stage.act("The system works: files, and a database that is being written"):
        guest.sh(_WORK)
    with stage.act(f"dpsr prepare {SERIAL}: the first full copy, while it works"):
        _dpsr(guest, f"prepare --yes {SERIAL}")
    with stage.act("More work, then dpsr update: only what changed is copied"):
        guest.sh(_MORE)
        sums = guest.sh(_SUMS)
        _dpsr(guest, "update")
        _dpsr(guest, "history")
        _dpsr(guest, "status")
    return sums


def _dpsr(guest: Guest, command: str) -> None:
    """Run it with its output on the console, where people watch."""
    job = guest.start("sh", "-c", f"dpsr {command} >/dev/ttyS0 2>&1")
    done = job.wait(timeout=900, ok=None)
    if done.status != 0:
        raise GuestError(f"dpsr {command} ended with exit status {done.status}.")


def _wreck(guest: Guest, stage: Stage) -> None:
    with stage.act("Disaster: the kernel and /etc of the primary are gone, and the power fails"):
        guest.sh("rm -rf /boot/vmlinuz* /boot/initrd* /etc; sync", ok=None)
        guest.pull_power()
    with stage.act("Power on: the primary cannot start any more"):
        heard = len(text_of(guest.console_log))
        # The DPSR disk is not even needed to see it: it is out for this one start.
        spec = next(disk for disk in guest.disks if disk.serial == SERIAL)
        guest.disks = [disk for disk in guest.disks if disk.serial != SERIAL]
        _power_on(guest)
        _wait_for(guest, _BROKEN, heard, _BOOT)
        guest.pull_power()
        guest.disks.append(spec)


def _come_back(guest: Guest, pictures: Path, sums: str, stage: Stage) -> Told:
    timeline: list[Moment] = []
    shots: list[Path] = []
    with stage.act("The primary is pulled out. Power on, with the DPSR disk alone"):
        guest.disks = [disk for disk in guest.disks if disk.serial != PRIMARY_SERIAL]
        heard = len(text_of(guest.console_log))
        begun = time.monotonic()

        def mark(what: str) -> None:
            timeline.append(Moment(time.monotonic() - begun, what))
            stage.note(f"{duration(timeline[-1].seconds)}: {what}")

        mark("power on")
        _power_on(guest)
        _wait_for(guest, _MENU, heard, _BOOT)
        mark("the menu of the DPSR disk")
        shots.append(guest.screendump(pictures / "1-menu.png"))
        _wait_for(guest, re.compile(r"Linux version|Welcome to"), heard, _BOOT)
        mark("the kernel starts")
        _wait_for(guest, re.compile(r"login:"), heard, _BOOT)
        mark("login")
        shots.append(guest.screendump(pictures / "2-login.png"))
    with stage.act("The same system, from the other disk"):
        guest.wait_up(_BOOT)
        found = guest.sh(_SUMS)
        if found != sums:
            raise GuestError("The files of the copy are not those of the primary.")
        guest.sh(f"sqlite3 {_NOTES}/orders.db 'pragma integrity_check' | grep -qx ok")
        disk = guest.sh("lsblk -dno SERIAL $(lsblk -npo PKNAME $(findmnt -no SOURCE /))").strip()
        if disk != SERIAL:
            raise GuestError(f"The system runs from {disk}, not from {SERIAL}.")
        failed = guest.sh("systemctl --failed --plain --no-legend").strip()
        if failed:
            raise GuestError(f"Units failed on the copy: {failed}")
        guest.sh("dpsr status > /dev/ttyS0")
        mark(f"{len(sums.splitlines())} files and the database checked: all there")
    return Told(tuple(timeline), tuple(shots), len(sums.splitlines()))


def _power_on(guest: Guest) -> None:
    Guest.power_on(guest)  # not into the snapshot of the system that is up


def _wait_for(guest: Guest, sign: re.Pattern[str], after: int, timeout: float) -> None:
    """Wait until the console shows `sign` behind its first `after` characters."""
    deadline = time.monotonic() + timeout
    while not sign.search(text_of(guest.console_log)[after:]):
        if time.monotonic() > deadline or not guest.is_on:
            raise GuestError(f"{sign.pattern!r} was not seen on the console.")
        time.sleep(0.2)
