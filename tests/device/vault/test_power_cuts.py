# SPDX-License-Identifier: GPL-3.0-or-later
"""The power fails everywhere, again while the disk is recovered, and nothing is ever lost.

After each cut: what the state sector says is what the slots hold, byte for byte, once recovered;
and a slot whose superblock makes sense is never a mixture.
"""

import contextlib
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from unittest import mock

import pytest

from builder.copying import saved, undo
from builder.copying.direct import SlotWriter
from builder.digests import keeper
from builder.vault import replay, undolog
from builder.vault.chain import generations
from builder.vault.undolog import LogFile
from core import files
from core.errors import ToolError
from tests.support.digest_oracle import check as check_digests
from tests.support.power_cut import HOWS, Cut, How, Recorder
from tests.support.vault_disk import (
    IDENTITY,
    NAMES,
    SIZE,
    Content,
    VaultDisk,
    manifest_of,
    next_content,
    put,
    write_content,
)

SOME: tuple[How, ...] = ("some",)

Job = Callable[[VaultDisk], object]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of four blocks, so that an update has many; few ranges are remembered exactly."""
    monkeypatch.setattr(undo, "ROOM", 4 * 4096)
    monkeypatch.setattr(saved, "LIMIT", 6)
    monkeypatch.setattr(undolog, "STEP", 16 << 10)


@pytest.fixture
def folders() -> Iterator[Iterator[Path]]:
    """Fresh places, in memory when there is a tmpfs: thousands are needed."""
    shm = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shm if shm.is_dir() else None) as top:
        yield (Path(top, str(number)) for number in count())


@dataclass
class Case:
    """A job on a disk, recorded, and what the slots may hold by generation."""

    recorder: Recorder
    known: dict[int, Content]
    links: dict[int, int]
    """How many generations there must be a way back to, by generation."""

    def at(self, events: int, how: How, dice: random.Random, folder: Path) -> VaultDisk:
        Cut(self.recorder, events).materialise(folder, how, dice)
        disk = VaultDisk(folder)
        self.check_signatures(disk)
        return disk

    def check_signatures(self, disk: VaultDisk) -> None:
        for name, data in disk.content.items():
            for gen, content in self.known.items():
                good = content[name]
                if any(data[start:end] == good[start:end] for start, end in IDENTITY[name]):
                    assert without_identity(name, data) == without_identity(name, good), (name, gen)

    def check_recovered(self, disk: VaultDisk) -> int:
        """The generation that it is."""
        state = disk.state
        assert state.state == "clean"
        assert disk.content == self.known[state.gen]
        chain = generations(disk.vault, state)
        assert chain, "the newest manifest is missing"
        reached = {each.generation for each in chain}
        assert reached >= set(range(state.gen, state.gen - self.links.get(state.gen, 0) - 1, -1))
        for manifest in chain:
            if manifest.generation in self.known:
                check_digests(disk.vault, manifest, self.known[manifest.generation])
        return state.gen


def without_identity(name: str, data: bytes) -> bytes:
    kept = bytearray(data)
    for start, end in IDENTITY[name]:
        kept[start:end] = bytes(end - start)
    return bytes(kept)


def recorded(
    disk: VaultDisk, job: Job, known: dict[int, Content], links: dict[int, int] | None = None
) -> Case:
    with Recorder(disk.folder).recording() as recorder:
        job(disk)
    return Case(recorder, known, links or {})


def recover(disk: VaultDisk) -> None:
    disk.recover()


def cut_everywhere(case: Case, folders: Iterator[Path], seed: int, rounds: int) -> set[int]:
    """Cut after each event, in every manner; return the generations that came out."""
    seen: set[int] = set()
    for events in range(len(case.recorder.events) + 1):
        certain = Cut(case.recorder, events).certain
        manners: tuple[How, ...] = ("all",) if certain else (*HOWS, *SOME * rounds)
        for how in manners:
            dice = random.Random(f"{seed} {events} {how} {len(seen)}")
            disk = case.at(events, how, dice, next(folders))
            recover(disk)
            seen.add(case.check_recovered(disk))
            go_on(case, disk, dice)
            shutil.rmtree(disk.folder)
    return seen


def go_on(case: Case, disk: VaultDisk, dice: random.Random) -> None:
    """Whatever is left in the vault, updates and ways back work."""
    gen = disk.state.gen
    if case.links.get(gen) and dice.random() < 0.2:
        disk.roll_back(gen - 1)
        assert disk.content == case.known[gen - 1]
    elif dice.random() < 0.1:
        content = disk.content
        disk.update(next_content(content, gen))
        disk.roll_back(gen)
        assert disk.content == content


def cut_twice(case: Case, folders: Iterator[Path], dice: random.Random, cases: int) -> None:
    """Cut somewhere, then cut the recovery everywhere, and some of those recoveries again."""
    for _ in range(cases):
        events = dice.randint(0, len(case.recorder.events))
        first = case.at(events, dice.choice(HOWS), dice, next(folders))
        again = recorded(first, recover, case.known, case.links)
        case.check_recovered(first)
        for cut in range(len(again.recorder.events)):
            disk = again.at(cut, dice.choice(HOWS), dice, next(folders))
            if dice.random() < 0.2:
                third = recorded(disk, recover, case.known, case.links)
                at = dice.randint(0, len(third.recorder.events))
                disk = third.at(at, "some", dice, next(folders))
            recover(disk)
            case.check_recovered(disk)
            shutil.rmtree(disk.folder)
        shutil.rmtree(first.folder)


def an_update(folder: Path, seed: int, **changes: object) -> Case:
    disk = VaultDisk.make(folder, seed)
    if changes:
        disk.say(booted=True)
    before = disk.content
    after = next_content(before, seed + 100)
    return recorded(
        disk,
        lambda disk: disk.update(after, **changes),
        {1: before, 2: after},
        {2: 1} if not changes else {},
    )


def a_busy_update(folder: Path, seed: int) -> Case:
    """Writes of any length, over each other, in any order; what is remembered gets coarse."""
    disk = VaultDisk.make(folder, seed)
    before = disk.content
    dice = random.Random(seed)
    after = {name: bytearray(data) for name, data in next_content(before, seed + 100, 0).items()}
    writes = []
    for _ in range(40):
        name = dice.choice(NAMES)
        start = dice.randrange(0, SIZE, 512)
        length = min(dice.choice((512, 1024, 4096, 20480)), SIZE - start)
        writes.append((name, start, dice.randbytes(length)))
        for at in range(start, start + length):
            if not any(first <= at < last for first, last in IDENTITY[name]):
                after[name][at] = writes[-1][2][at - start]
    final = {name: bytes(data) for name, data in after.items()}

    def job(disk: VaultDisk) -> None:
        with disk.transaction() as transaction:
            writers = transaction.begin(SIZE)
            for name, start, content in writes:
                put(writers[name], start, content)
            write_content(writers, before, final)
            transaction.commit(manifest_of(2))

    return recorded(disk, job, {1: before, 2: final}, {2: 1})


def a_crowded_update(folder: Path, seed: int) -> Case:
    """The vault is full in the middle; the two oldest of three generations make room."""
    disk = VaultDisk.make(folder, seed)
    for gen in (2, 3):
        disk.update(next_content(disk.content, seed + gen))
    before = disk.content
    after = next_content(before, seed + 100)
    real = LogFile._allocate
    tries = iter([True, False, False, False, True])

    def allocate(self: LogFile, end: int) -> bool:
        return next(tries, True) and real(self, end)

    def job(disk: VaultDisk) -> None:
        with mock.patch.object(LogFile, "_allocate", allocate):
            disk.update(after)

    case = recorded(disk, job, {3: before, 4: after}, {4: 1})
    assert [each.generation for each in generations(disk.vault, disk.state)] == [4, 3]
    return case


class Broken(Exception):
    """Stands for any failure in the middle of an update."""


def a_failed_update(folder: Path, seed: int) -> Case:
    """It fails in the middle and goes back at once."""
    disk = VaultDisk.make(folder, seed)
    before = disk.content
    after = next_content(before, seed + 100)

    def job(disk: VaultDisk) -> None:
        with contextlib.suppress(Broken), disk.transaction() as transaction:
            write_content(transaction.begin(SIZE), before, after)
            raise Broken

    return recorded(disk, job, {1: before, 2: after})


def a_roll_back(folder: Path, seed: int, updates: int = 3) -> Case:
    disk = VaultDisk.make(folder, seed)
    known = {1: disk.content}
    for gen in range(2, updates + 2):
        known[gen] = next_content(known[gen - 1], seed + gen)
        disk.update(known[gen])
    return recorded(disk, lambda disk: disk.roll_back(1), known, {updates + 1: updates})


MAKERS = {
    "update": an_update,
    "busy": a_busy_update,
    "crowded": a_crowded_update,
    "booted": lambda folder, seed: an_update(folder, seed, chained=False),
    "failed": a_failed_update,
    "back": a_roll_back,
}
ENDS = {
    "update": {1, 2},
    "busy": {1, 2},
    "crowded": {3, 4},
    "booted": {1, 2},
    "failed": {1},
    "back": {1, 4},
}


@pytest.mark.parametrize("what", MAKERS)
def test_a_cut_anywhere_loses_nothing(what: str, folders: Iterator[Path]) -> None:
    case = MAKERS[what](next(folders), 1)
    assert cut_everywhere(case, folders, seed=1, rounds=5) == ENDS[what]


@pytest.mark.parametrize("what", MAKERS)
def test_a_cut_while_recovering_loses_nothing(what: str, folders: Iterator[Path]) -> None:
    case = MAKERS[what](next(folders), 2)
    cut_twice(case, folders, random.Random(2), cases=10)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(100, 120))
@pytest.mark.parametrize("what", MAKERS)
def test_many_cuts(what: str, seed: int, folders: Iterator[Path]) -> None:
    case = MAKERS[what](next(folders), seed)
    assert cut_everywhere(case, folders, seed, rounds=6) == ENDS[what]
    cut_twice(case, folders, random.Random(seed), cases=8)


# The checks themselves: each of these faults is seen.


def _nothing(*_: object) -> None:
    pass


FAULTS: dict[str, tuple[str, object, str]] = {
    "the log is not synced before the slots are overwritten": ("update", LogFile, "sync"),
    "the superblocks are not destroyed first": ("update", undo.Undo, "_destroy"),
    "the superblocks are not destroyed when going back": ("back", replay, "_destroy"),
    "the slots are not flushed": ("update", SlotWriter, "flush"),
    "the log's name is not synced": ("update", undolog, "sync_folder"),
    "the manifest's name is not synced": ("update", files, "sync_folder"),
    "the digests are not synced": ("update", keeper, "_sync"),
}


def _drain(self: LogFile) -> None:
    self._drain()
    self.synced = self._end


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_seen(
    fault: str, folders: Iterator[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    what, owner, name = FAULTS[fault]
    monkeypatch.setattr(owner, name, _drain if name == "sync" else _nothing)
    case = MAKERS[what](next(folders), 1)
    with pytest.raises((AssertionError, ToolError)):
        cut_everywhere(case, folders, seed=1, rounds=2)


def test_superblocks_that_come_back_early_are_seen(
    folders: Iterator[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Blind(replay.Spans):
        def cut(self, start: int, end: int) -> Iterator[replay.Piece]:
            yield start, end, False

    monkeypatch.setattr(replay, "Spans", Blind)
    case = MAKERS["back"](next(folders), 1)
    with pytest.raises(AssertionError):
        cut_everywhere(case, folders, seed=1, rounds=2)
