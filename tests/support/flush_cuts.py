# SPDX-License-Identifier: GPL-3.0-or-later
"""The power fails at every flush of a recorded disk, and what is left is held to the promise.

The state sector can be read; what a start needs of the control partition is whole; no slot that
looks like a file system is a mixture; recovery makes of it one of two generations, block by block,
and the way back from there is whole; recovery itself may be cut off.
"""

import hashlib
import random
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import xxhash

from builder.control_mount import sound
from builder.vault import chain, mend
from builder.vault.recovery import recover
from core.model.state import State
from core.run import run, run_bytes
from tests.support.cut_recovery import PowerCut, cut_off
from tests.support.flush_log import Window
from tests.support.power_cut import HOWS, Write, surviving
from tests.support.recorded_disk import Content, RecordedDisk
from tests.support.vault_disk import Silent

LOADER: Final = ("EFI/BOOT/BOOTX64.EFI", "EFI/debian/grub.cfg", "grub/grub.cfg", "grub/grubenv")
RESCUE: Final = ("vmlinuz", "initrd.img")

Files = dict[str, str]
"""Digests of files, by path."""


@dataclass(frozen=True, slots=True)
class Job:
    """One recorded job, and what may come of a cut in the middle of it."""

    windows: Sequence[Window]
    known: dict[int, Content]
    """What the slots may hold in the end, by generation."""
    links: dict[int, int]
    """How many generations there must be a way back to, by generation."""
    whole: dict[str, set[bytes]] = field(default_factory=dict)
    """What a slot may hold under a superblock, but for these: digests, by name."""


@dataclass(frozen=True, slots=True)
class Held:
    """What a disk in state `clean` holds."""

    generation: int
    content: Content
    links: int
    """How many generations there is a way back to."""


@dataclass(slots=True)
class Cuts:
    """Cuts a recorded disk off, and counts what came of it."""

    disk: RecordedDisk
    dice: random.Random
    rounds: int
    """How many random subsets of each window there are, besides all, none, the last, all others."""
    twice: float
    """Which share of the recoveries is cut off in its turn."""
    needed: dict[str, Files] = field(default_factory=dict)
    """What a start needs, by the name of the rescue system that counts."""
    seen: Counter[str] = field(default_factory=Counter)
    _version: int = -1
    _sound: set[bytes] = field(default_factory=set)
    """Control partitions that were looked at."""

    @property
    def checks(self) -> int:
        """How many cuts there were."""
        return sum(count for name, count in self.seen.items() if name.startswith("cut "))

    def learn(self) -> Held:
        """The disk is as a job that came to its end left it: all that counts is whole."""
        self.disk.lay_out()
        state = self.disk.state
        assert state.state == "clean"
        self.needed[state.rescue] = files(self.disk.control.path, state.rescue)
        return Held(state.gen, self.disk.content, len(self.chain(state)) - 1)

    def chain(self, state: State) -> list[int]:
        """The generations that the vault knows the way to."""
        path = str(self.disk.vault.path)
        mend.check(path)
        with tempfile.TemporaryDirectory(dir=self.disk.folder) as folder:  # quicker than a mount
            run("debugfs", "-R", f"rdump / {folder}", path)
            return [each.generation for each in chain.generations(Path(folder), state)]

    def everywhere(self, job: Job) -> set[int]:
        """Cut within every window; the disk holds all of the job then. Returns what came out."""
        found = {self.once(job, [])}
        for window in job.windows:
            for how in (*HOWS[1:], *HOWS[-1:] * (self.rounds - 1)):
                found.add(self.once(job, list(surviving(window.writes, how, self.dice))))
            self.disk.keep(window.writes)
            found.add(self.once(job, []))
        return found

    def once(self, job: Job, loose: Sequence[Write]) -> int:
        """One cut; the generation that came out."""
        disk = self.disk
        disk.lay_out(loose)
        state = disk.state
        self.seen[f"cut {state.state}"] += 1
        touched = any(disk.placed(write)[0] is disk.control for write in loose)
        self.check_control(state, touched=touched)
        self.check_signatures(job)
        while state.state != "clean" and self.dice.random() < self.twice:
            try:
                with cut_off(disk, self.dice):
                    self.recover()
                break
            except PowerCut:
                self.seen["recovery cut"] += 1
            self.check_signatures(job)
        state = self.recover()
        self.check_recovered(job, state)
        self.seen[f"recovered {state.gen}"] += 1
        return state.gen

    def recover(self) -> State:
        disk = self.disk
        control, vault = str(disk.control.path), str(disk.vault.path)
        return recover(control, disk.state_at, vault, disk.slot_path, Silent())

    def check_recovered(self, job: Job, state: State) -> None:
        disk = self.disk
        assert state.state == "clean"
        assert state.gen in job.known, f"generation {state.gen}"
        wrong = [name for name, data in disk.content.items() if data != job.known[state.gen][name]]
        assert not wrong, f"{wrong} are not those of generation {state.gen}"
        reached = self.chain(state)
        least = job.links[state.gen]
        assert reached[: least + 1] == list(range(state.gen, state.gen - least - 1, -1)), reached

    def check_signatures(self, job: Job) -> None:
        """A slot with a superblock is that of one generation, but for its superblocks."""
        for region in self.disk.slots.values():
            if not region.identity or not region.looks_like_ext4():
                continue
            name = region.part.name
            content = digest_of(region.without_identity(region.content))
            assert content in job.whole[name], f"{name} looks like a file system, and is a mixture"

    def check_control(self, state: State, *, touched: bool) -> None:
        """What GRUB needs is whole, and still so after the next mount's check."""
        control = self.disk.control
        if not touched and control.version == self._version:
            return
        self._version = -1 if touched else control.version
        key = xxhash.xxh3_128_digest(b"".join(control.content))
        if key in self._sound:
            return
        self._sound.add(key)
        assert state.rescue in self.needed, f"nobody made the rescue system {state.rescue}"
        assert files(control.path, state.rescue) == self.needed[state.rescue]
        copy = control.path.with_suffix(".checked")
        run("cp", "--sparse=always", str(control.path), str(copy))
        sound(str(copy), Silent())
        run("fsck.fat", "-n", str(copy))
        assert files(copy, state.rescue) == self.needed[state.rescue]
        self.seen["control partition"] += 1


def digest_of(content: Sequence[bytes]) -> bytes:
    """Of what the ranges of a slot hold."""
    state = xxhash.xxh3_128()
    for each in content:
        state.update(each)
    return state.digest()


def files(fat: Path, rescue: str) -> Files:
    """Digests of what a start needs of a control partition."""
    names = (*LOADER, *(f"dpsr/r-{rescue}/{name}" for name in RESCUE))
    return {name: _digest(run_bytes("mtype", "-i", str(fat), f"::{name}")) for name in names}


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
