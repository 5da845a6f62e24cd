# SPDX-License-Identifier: GPL-3.0-or-later
"""`prepare` on a disk that is known: what it may do, and what the set was made of."""

from dataclasses import replace

from builder.plan.fstab import normal
from builder.plan.wish import Wish
from core.errors import AlreadyPrepared, NotPrepared, StateUnreadable, UnknownFormat
from core.model.machine import Disk, Machine
from core.screen import moment
from core.settings import BackupSet, Settings
from grub.state import read_state


def recorded_name(known: Settings, wish: Wish) -> str:
    """By what the disk of a set is found when only the set was named. Raises NotPrepared."""
    if not wish.again:
        raise NotPrepared("Which disk? Nothing was written.", "`dpsr disks` lists them.")
    found = known.named(wish.name)
    return found.serial or found.wwn


def refuse_complete(disk: Disk, known: Settings, wish: Wish) -> None:
    """Nobody gives up a copy that starts by mistake. Raises AlreadyPrepared."""
    for backup_set in known.sets:
        if disk.guid != backup_set.guid or (wish.again and wish.name == backup_set.name):
            continue
        try:
            state = read_state(disk.path, backup_set.state_offset)
        except (StateUnreadable, UnknownFormat):
            continue
        if state.state != "building":
            raise AlreadyPrepared(
                f"{disk.path} is the DPSR disk of the set {backup_set.name}, and holds a complete "
                f"copy of {moment(state.taken)}. Nothing was written."
            )


def as_before(machine: Machine, known: Settings, wish: Wish) -> Wish:
    """The wish, with what was asked for when the set was made; what went away is left out.

    Also when the set gets another disk.
    """
    before = next((found for found in known.sets if found.name == wish.name), None)
    if before is None:
        return wish
    wanted = {normal(place) for place in wish.volumes}
    unwanted = {normal(place) for place in wish.exclude}
    extra = [place for place in _places(before) if machine.mount_at(place)]
    there = [place for place in before.exclude if machine.mount_at(place)]
    return replace(
        wish,
        volumes=tuple(dict.fromkeys((*wanted, *(p for p in extra if p not in unwanted)))),
        exclude=tuple(dict.fromkeys((*unwanted, *(p for p in there if p not in wanted)))),
    )


def _places(known: BackupSet) -> tuple[str, ...]:
    return tuple(volume.mountpoint for volume in known.volume)
