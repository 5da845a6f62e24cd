# SPDX-License-Identifier: GPL-3.0-or-later
"""The two disks of a machine as `dpsr switch` sees them, from whichever of them it runs."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from builder.fixup import marker
from builder.fixup.tree import MARKER
from builder.status import copy_we_run_from
from builder.target import Target, find_target
from core.errors import NotPrepared, ToolError
from core.hidden import away_now
from core.machine.look import look
from core.model.machine import Disk, Firmware, Machine, Partition
from core.model.state import State
from core.namespace import mounted
from core.settings import BackupSet, Settings
from grub import state as block
from grub.order import Wish
from grub.turn import Side

_ROOT: Final = Path("/")


@dataclass(slots=True)
class Sides:
    """What is known of both disks. `state` follows what is written."""

    name: str
    here: Side
    """Where this system runs."""
    firmware: Firmware
    disk: Disk
    """The DPSR disk."""
    control: Partition
    state_at: int
    state: State
    wish: Wish
    sets: tuple[BackupSet, ...] = ()
    """On the primary: every DPSR disk that it knows."""

    def write(self, state: State) -> None:
        """Replace what the state block says, unless it is so already. Raises StateUnreadable."""
        if state != self.state:
            block.write_state(self.disk.path, self.state_at, state)
            self.state = state


def find_sides(chosen: Settings, name: str, *, as_seen: bool = False) -> Sides:
    """Look at the machine; to be called in a private mount namespace. Writes nothing.

    `as_seen`: a disk that is hidden stays so; what it held when it was last seen is enough. Raises
    NotPrepared, CopyUnreachable, AmbiguousDisk, StateUnreadable.
    """
    machine = look()
    home = copy_we_run_from(machine)
    return _on_copy(machine, home, name) if home else _on_primary(chosen, name, as_seen)


def _on_copy(machine: Machine, home: Disk, name: str) -> Sides:
    control = next((part for part in home.partitions if part.name == "dpsr-control"), None)
    if control is None:
        raise NotPrepared(f"{home.path} has no control partition. Nothing was written.")
    state_at, state = locate_state(control)
    wish = Wish(control.partuuid, frozenset(_of_primary(_ROOT)), keeps=True)
    return Sides(name, "dpsr", machine.firmware, home, control, state_at, state, wish)


def locate_state(control: Partition) -> tuple[int, State]:
    """Where the state block lies on its disk, and what it says. Raises StateUnreadable."""
    with mounted(control.path, "control", "ro", fstype="vfat") as folder:
        return block.locate(folder), block.parse((folder / block.FILE).read_bytes())


def _of_primary(root: Path) -> Iterable[str]:
    """Partition GUIDs of the system that the copy at `root` was made from."""
    try:
        known = marker.load((root / MARKER).read_bytes())
    except (OSError, ToolError):
        return ()
    return [pair.old.partuuid for pair in known.pairs if pair.old.partuuid]


def _on_primary(chosen: Settings, name: str, as_seen: bool) -> Sides:
    gone = away_now(chosen.named(name)) if as_seen else None
    if gone is None or gone.state is None:
        target = find_target(chosen, name)
        state = block.read_state(target.disk.path, target.known.state_offset)
    else:
        target = Target(chosen.named(name), look(), gone.disk)
        state = gone.state
    known, machine = target.known, target.machine
    control = next(part for part in target.disk.partitions if part.path == target.control)
    wish = Wish(
        known.control_guid,
        frozenset(_partuuids(machine, known)),
        frozenset(each.control_guid for each in chosen.sets if each.name != name),
    )
    return Sides(
        name,
        "primary",
        machine.firmware,
        target.disk,
        control,
        known.state_offset,
        state,
        wish,
        chosen.sets,
    )


def _partuuids(machine: Machine, known: BackupSet) -> Iterable[str]:
    for volume in known.volume:
        mount = machine.mount_at(volume.mountpoint)
        part = machine.partition(mount.source) if mount else None
        if part is not None and part.partuuid:
            yield part.partuuid
