# SPDX-License-Identifier: GPL-3.0-or-later
"""The rescue system's program: repairs the copy by itself, then starts it.

GRUB starts it when an update or a rollback was interrupted. It runs in an initrd, alone, with no
one to ask; whatever it does can be cut off and done again. Only what it cannot repair, and what a
person came for, ends in a menu, which waits. Exit status 0: the initrd goes on with the copy's root
file system, which is mounted.
"""

import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from builder.vault.recovery import recover
from core.errors import ChainClosed, StepFailed, ToolError
from core.model.copy import partition_path
from core.model.state import State
from core.namespace import mounted
from core.screen import moment
from grub import gpt
from grub.state import locate, read_state
from recovery import firmware, handover, kexec, menu, older
from recovery.consoles import ConsoleScreen

_PATIENCE: Final = 30.0
"""Seconds that a slow disk gets to appear before a person is offered other things."""
_CONTROL: Final = "dpsr-control"
_VAULT: Final = "dpsr-vault"
_SLOT: Final = "dpsr-slot-"

HEAD: Final = "DPSR rescue system"
REPAIRS: Final = (
    "The last backup was interrupted. It is being undone now, by itself. Please wait.\n"
    "You need not do anything. Should the power fail, just switch the machine on again."
)
GOES_ON: Final = (
    "The way back to an older backup was interrupted. It is gone on with now, by itself. Please "
    "wait.\nYou need not do anything. Should the power fail, just switch the machine on again."
)
REPAIRED: Final = "Done: the copy is complete again, as it was at {taken}."
NOTHING: Final = "There is nothing to repair on this disk: it holds the copy of {taken}."
NO_COPY: Final = (
    "The first copy on this disk was never completed: there is nothing to start.\n"
    "Start the machine from its own disk, and run there: dpsr prepare"
)
WAITING: Final = (
    "Waiting for the DPSR disk. Look whether its cable sits firmly. As soon as it is there, this "
    "goes on by itself."
)
STUCK: Final = (
    "The copy could NOT be repaired, and cannot be started as it is. Nothing more was changed.\n"
    "What to do: take a photo of this screen, for whoever runs this machine. Should the machine's "
    "own disk still work, start it from that one, and run there: dpsr update"
)
NOT_STARTED: Final = (
    "That did not work, but the copy on this disk is complete. Restart the machine from this disk: "
    "it starts the copy then."
)
UNREADABLE: Final = (
    "What this disk holds cannot be read: it is damaged. Should the machine's own disk still work, "
    "start it from that one, and run there: dpsr update"
)
ABSENT: Final = (
    "The DPSR disk does not answer. Look at its cable and its bay, or plug it in again: as soon as "
    "it is there, this goes on by itself."
)
QUESTION: Final = "What shall be done?"


@dataclass(frozen=True, slots=True)
class Copy:
    """A DPSR disk that is there."""

    disk: str
    state_at: int
    parts: dict[str, int]
    """Numbers of its partitions by their names."""

    def path(self, number: int) -> str:
        """Device of a partition."""
        return partition_path(self.disk, number)

    @property
    def vault(self) -> str:
        """Device of the vault."""
        return self.path(self.parts[_VAULT])

    @property
    def slots(self) -> list[str]:
        """Devices of the slots."""
        return [self.path(n) for name, n in self.parts.items() if name.startswith(_SLOT)]

    @property
    def state(self) -> State:
        """What the disk says. Raises StateUnreadable, UnknownFormat."""
        return read_state(self.disk, self.state_at)


def main() -> int:
    """See above."""
    line = Path("/proc/cmdline").read_text("utf-8")
    screen = ConsoleScreen()
    screen.clear()
    screen.step(HEAD)
    words = line.split()
    rescue = Rescue(screen, asked_for(line), only_restart="dpsr.restart" in words)
    return rescue.run(asks_older="dpsr.older" in words)


def asked_for(line: str) -> str:
    """The GUID of the DPSR disk, from the kernel's command line; empty: none is named."""
    found = re.search(r"(?:^|\s)dpsr\.disk=([0-9A-Fa-f-]{36})(?:\s|$)", line)
    return found[1].lower() if found else ""


class Rescue:
    """What the rescue system does with the disk `guid`.

    `only_restart`: the copy is started through the firmware, where the other ways do not work.
    """

    def __init__(self, screen: ConsoleScreen, guid: str, *, only_restart: bool = False) -> None:
        self.screen = screen
        self.guid = guid
        self.only_restart = only_restart

    def run(self, *, asks_older: bool) -> int:
        """Do what the disk's state calls for, then what a person wants, until the copy starts."""
        todo: Callable[[], bool] = self.older if asks_older else self.by_itself
        while not self._try(todo):
            todo = self._ask()
        return 0

    def by_itself(self) -> bool:
        """Repair and start what was interrupted; True: the initrd is to go on with the copy."""
        copy = self._find()
        state = copy.state
        if state.state == "building":
            self.screen.warn(NO_COPY)
            return False
        if state.state == "clean":
            self.screen.step(NOTHING.format(taken=moment(state.taken)))
            return False
        return self._start(copy, self._repaired(copy, state))

    def start(self) -> bool:
        """Start the copy, repaired where it needs that."""
        copy = self._find()
        return self._start(copy, self._repaired(copy, copy.state))

    def older(self) -> bool:
        """Let a person choose an older generation, and start that."""
        copy = self._find()
        state = self._repaired(copy, copy.state)
        chosen = older.go_back(copy.disk, copy.state_at, state, copy.vault, copy.path, self.screen)
        return chosen is not None and self._start(copy, chosen)

    def _repaired(self, copy: Copy, state: State) -> State:
        """Take back what was interrupted; the state sector says `clean` afterwards."""
        if state.state == "building":
            raise StepFailed("The state block says `building`.")
        if state.state == "clean":
            return state
        self.screen.step(GOES_ON if state.state == "rolling-back" else REPAIRS)
        state = recover(copy.disk, copy.state_at, copy.vault, copy.path, self.screen)
        self.screen.step(REPAIRED.format(taken=moment(state.taken)))
        return state

    def _start(self, copy: Copy, state: State) -> bool:
        return handover.start_copy(
            copy.disk, copy.state_at, state, copy.slots, self.screen, only_restart=self.only_restart
        )

    def _try(self, todo: Callable[[], bool]) -> bool:
        try:
            return todo()
        except ChainClosed as reason:
            self.screen.warn(str(reason))
        except (ToolError, OSError) as reason:
            self._advise()
            self.screen.note(f"For an expert: {reason}")
        return False

    def _advise(self) -> None:
        """What it means that something went wrong, by what the disk says."""
        state = self._state_now()
        words = {"": UNREADABLE, "building": NO_COPY, "clean": NOT_STARTED}.get(state, STUCK)
        self.screen.warn(words if self._there() else ABSENT)

    def _ask(self) -> Callable[[], bool]:
        """Let a person say what is done next; a disk that appears is reason enough, too."""
        there = self._there()
        known = self._state_now()
        choices: list[tuple[str, Callable[[], bool]]] = []
        if known == "clean":
            choices = [("Start the copy", self.start), ("Start an older copy", self.older)]
        elif known != "building":
            choices = [("Try again", self.by_itself)]
        choices.append(("Restart the machine", _restart))
        if firmware.can_set_up():
            choices.append(("Restart into the firmware's setup (boot order)", _set_up))
        choices.append(("Switch the machine off", _switch_off))
        lines = [*(words for words, _ in choices), "A command line, for those who know Linux"]
        picked, console = menu.ask(
            self.screen, QUESTION, lines, lambda: not there and bool(self._there())
        )
        if picked is None:
            return self.by_itself
        if picked == len(choices):
            menu.shell(console)
            return lambda: False
        return choices[picked][1]

    def _state_now(self) -> str:
        """What the disk says by now; empty: it is not there, or cannot be read."""
        with suppress(ToolError, OSError):
            if there := self._there():
                return self._opened(there).state.state
        return ""

    def _find(self) -> Copy:
        """The DPSR disk, once it has appeared. Raises StepFailed, StateUnreadable."""
        deadline = time.monotonic() + _PATIENCE
        said = False
        while not (disk := self._there()):
            if time.monotonic() > deadline:
                raise StepFailed(f"The DPSR disk {self.guid} does not appear.")
            if not said:
                self.screen.step(WAITING)
                said = True
            time.sleep(0.5)
        return self._opened(disk)

    def _there(self) -> str:
        """Device of the DPSR disk; empty when it is not there, or cannot be told from another."""
        found = [disk for disk in _disks() if _is_ours(disk, self.guid)]
        return found[0] if len(found) == 1 else ""

    def _opened(self, disk: str) -> Copy:
        parts = gpt.named(disk)
        control = partition_path(disk, parts[_CONTROL])
        with mounted(control, "control", "ro", fstype="vfat") as folder:
            return Copy(disk, locate(folder), parts)


def _restart() -> bool:
    kexec.restart()
    return False


def _set_up() -> bool:
    firmware.set_up_next()
    return _restart()


def _switch_off() -> bool:
    kexec.switch_off()
    return False


def _disks() -> list[str]:
    return [
        f"/dev/{name}"
        for name in sorted(os.listdir("/sys/block"))
        if not name.startswith(("loop", "ram", "zram", "sr", "fd", "dm-", "md"))
    ]


def _is_ours(disk: str, guid: str) -> bool:
    """Whether the disk and its partitions are there, and it is the one that was asked for."""
    try:
        parts = gpt.named(disk)
        if {_CONTROL, _VAULT} - set(parts) or guid not in {"", gpt.guid_of(disk)}:
            return False
        return all(os.path.exists(partition_path(disk, number)) for number in parts.values())
    except OSError:
        return False
