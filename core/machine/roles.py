# SPDX-License-Identifier: GPL-3.0-or-later
"""What each disk of the machine is there for. Pure."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from core.model.machine import Disk, Machine

Kind = Literal["primary", "dpsr", "in use", "free"]


@dataclass(frozen=True, slots=True)
class Role:
    """The role of a disk, and a few words that say more."""

    kind: Kind
    detail: str


def role_of(machine: Machine, disk: Disk, recorded: Collection[str]) -> Role:
    """The role of `disk`; `recorded`: GUIDs of the DPSR disks in the configuration."""
    ours = disk.guid in recorded or any(part.name == "dpsr-control" for part in disk.partitions)
    paths = {disk.path, *(part.path for part in disk.partitions)}
    above = {holder.path: holder.kind for holder in machine.holders_of(disk)}
    mounted = [m.mountpoint for m in machine.mounts if m.source in paths or m.source in above]
    if "/" in mounted:
        return Role("dpsr", "this system runs from it") if ours else Role("primary", "")
    if ours:
        known = disk.guid in recorded
        return Role("dpsr", "" if known else "not in this system's configuration")
    if mounted:
        return Role("in use", f"mounted at {', '.join(mounted)}")
    if any(swap.path in paths for swap in machine.swaps):
        return Role("in use", "swap")
    if above:
        return Role("in use", next(iter(above.values())))
    if disk.partitions or disk.fstype:
        return Role("free", "has data on it")
    return Role("free", "empty")
