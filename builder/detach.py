# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes one disk away from the kernel, without harm to anything else, and brings it back."""

import os
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from core import hidden
from core.errors import CopyUnreachable, DiskInUse, DiskMounted, HideFailed, ToolError
from core.files import sync_device
from core.hidden import Away
from core.machine.attached import Way, attached, way_of
from core.machine.devices import boot_id, sysfs_name
from core.machine.find import find_recorded
from core.machine.look import look
from core.machine.udev import is_ignored
from core.model.machine import Disk, Machine
from core.model.state import State
from core.run import run
from core.settings import BackupSet
from grub.state import read_state

_PATIENCE: Final = 30.0
"""Seconds until a disk must be back, or gone."""
_BLOCK: Final = Path("/sys/class/block")
_SCSI_HOSTS: Final = Path("/sys/class/scsi_host")

NOT_BACK: Final = (
    "The hidden DPSR disk ({model}, {called}) did not come back at its place within {seconds:.0f} "
    "s: it may have been pulled out."
)
BY_HAND: Final = "Look whether it is plugged in. A restart of this system brings it back, too."


def way_off(disk: Disk) -> Way:
    """How this disk could be detached now."""
    return way_of(attached(sysfs_name(disk.path)))


def detach(machine: Machine, disk: Disk, known: BackupSet) -> Way:
    """Take the disk of the set away, or have it ignored where that would do harm; returns how.

    What it holds, and how it comes back, is on record before. Raises DiskMounted, DiskInUse: it
    stays as it is; HideFailed.
    """
    refuse_used(machine, disk)
    for path in nodes(disk):
        with suppress(OSError):  # a disk that fails is to go all the same
            sync_device(path)
    way = way_off(disk)
    if way.kind == "none":
        ignore(disk)
        return way
    before = hidden.read_away(known)
    if before is not None and not disk.links:
        # People know the disk's place by them; udev makes none of a disk that it has to ignore.
        disk = replace(disk, links=before.disk.links)
    hidden.write_away(known.name, hidden.away(way, disk, _state(disk, known)))
    try:
        Path(way.take).write_text("1", "ascii")
        _wait_gone(disk)
    except (OSError, HideFailed) as reason:
        hidden.came_back(known.name)
        ignore(disk)
        why = getattr(reason, "strerror", None) or str(reason)
        raise HideFailed(f"{disk.path} could not be detached: {why}.") from None
    return way


def bring_back(known: BackupSet, gone: Away) -> Disk:
    """Have the kernel find the disk again at its place. Raises CopyUnreachable."""
    deadline = time.monotonic() + _PATIENCE
    _rescan(gone)
    while True:
        with suppress(ToolError):
            run("udevadm", "settle", "--timeout=20")
        disk = find_recorded(look(), known.serial, known.wwn, known.guid)
        if disk is not None and disk.partitions:
            return disk
        if time.monotonic() > deadline:
            called = known.serial or known.wwn
            said = NOT_BACK.format(model=known.model, called=called, seconds=_PATIENCE)
            raise CopyUnreachable(said, BY_HAND)
        time.sleep(0.2)


def refuse_used(machine: Machine, disk: Disk) -> None:
    """Raise DiskMounted or DiskInUse when anybody uses the disk, in whatever mount namespace."""
    paths = nodes(disk)
    for mount in machine.mounts:
        if mount.source in paths:
            raise DiskMounted(disk.path, mount.mountpoint)
    try:
        os.close(os.open(disk.path, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
    except OSError as reason:
        raise DiskInUse(f"{disk.path} ({reason.strerror})") from None


def ignore(disk: Disk) -> None:
    """Keep a disk that stays attached out of everybody's way."""
    set_read_only(disk, wanted=True)
    if not is_ignored(disk.dev):
        ask_udev(disk)


def set_read_only(disk: Disk, *, wanted: bool) -> None:
    """Whether the kernel takes writes to the disk and its partitions. Raises CommandFailed."""
    # The disk's own mark would be enough for its partitions, were each reader to ask for that.
    run("blockdev", "--setro" if wanted else "--setrw", *nodes(disk))


def ask_udev(disk: Disk) -> None:
    """Have udev go by its rules once more. Raises CommandFailed."""
    run("udevadm", "trigger", "--settle", "--action=change", *nodes(disk))


def nodes(disk: Disk) -> tuple[str, ...]:
    """The disk and its partitions."""
    return (disk.path, *(part.path for part in disk.partitions))


def _rescan(gone: Away) -> None:
    """Have the kernel look at the recorded place, and at no other."""
    way = gone.way
    places = [Path(way.bring)]
    if gone.boot != boot_id() and way.kind == "scsi":
        # Hosts are counted as they come; the PCI function above says which it was.
        hosts = sorted(_SCSI_HOSTS.iterdir()) if _SCSI_HOSTS.is_dir() else []
        places = [host / "scan" for host in hosts if f"/{way.pci}/" in os.path.realpath(host)]
    for place in places:
        with suppress(OSError):  # whether the disk comes is what counts
            place.write_text(way.say, "ascii")


def _state(disk: Disk, known: BackupSet) -> State | None:
    try:
        return read_state(disk.path, known.state_offset)
    except ToolError:
        return None


def _wait_gone(disk: Disk) -> None:
    deadline = time.monotonic() + _PATIENCE
    while (_BLOCK / sysfs_name(disk.path)).exists():
        if time.monotonic() > deadline:
            raise HideFailed(f"the kernel still shows it after {_PATIENCE:.0f} s")
        time.sleep(0.02)
