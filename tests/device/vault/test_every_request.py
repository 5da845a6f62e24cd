# SPDX-License-Identifier: GPL-3.0-or-later
"""The DPSR disk fails at each request in turn, in every manner; nothing is lost, all said is true.

After each failure: the error is one of ours; what it says that the disk holds is what it holds;
and once the disk is well again, the next run ends in a generation that is right byte by byte.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import get_args

import pytest

from builder import trouble
from builder.copying import undo
from builder.target import holding
from builder.vault import transaction, undolog
from builder.vault.chain import generations
from builder.vault.recovery import roll_back
from core.errors import StepFailed, ToolError
from core.model.state import State
from core.screen import moment
from tests.support.faulty_disk import FaultyDisk, Manner, matters
from tests.support.vault_disk import (
    SIZE,
    STATE_AT,
    Content,
    VaultDisk,
    manifest_of,
    next_content,
    write_content,
)

MANNERS: tuple[Manner, ...] = get_args(Manner)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(undo, "ROOM", 4 * 4096)
    monkeypatch.setattr(undolog, "STEP", 16 << 10)


@pytest.fixture
def folders() -> Iterator[Iterator[Path]]:
    """Fresh places, in memory when there is a tmpfs."""
    shm = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shm if shm.is_dir() else None) as top:
        yield (Path(top, str(number)) for number in count())


Job = Callable[[VaultDisk], Callable[[], object]]
"""Looks at the disk while it is well; what it returns is done while it fails."""


@dataclass
class Case:
    """A disk, what is done on it, and what its slots may hold by generation."""

    master: Path
    job: Job
    known: dict[int, Content]
    guarded: bool = False
    """By a transaction, which says what the disk holds when it fails."""

    def fresh(self, folder: Path) -> VaultDisk:
        shutil.copytree(self.master, folder)
        return VaultDisk(folder)


def an_update(folder: Path) -> Case:
    disk = VaultDisk.make(folder)
    before = disk.content
    after = next_content(before, 100, 4)

    def job(disk: VaultDisk) -> Callable[[], object]:
        running = disk.transaction()

        def update() -> None:
            with running:
                write_content(running.begin(SIZE), before, after)
                running.commit(manifest_of(2))

        return update

    return Case(folder, job, {1: before, 2: after}, guarded=True)


def a_roll_back(folder: Path) -> Case:
    disk = VaultDisk.make(folder)
    known = {1: disk.content}
    for gen in (2, 3):
        known[gen] = next_content(known[gen - 1], gen, 4)
        disk.update(known[gen])

    def job(disk: VaultDisk) -> Callable[[], object]:
        state = disk.state
        where = str(disk.disk), STATE_AT, disk.vault
        return lambda: roll_back(*where, state, 1, disk.slot_path, disk.screen)

    return Case(folder, job, known)


def a_recovery(folder: Path) -> Case:
    """Of an update that was cut off when everything was written."""
    disk = VaultDisk.make(folder)
    before = disk.content
    running = disk.transaction()
    write_content(running.begin(SIZE), before, next_content(before, 100, 4))
    return Case(folder, lambda disk: disk.recover, {1: before})


MAKERS = {"update": an_update, "rollback": a_roll_back, "recovery": a_recovery}


def fail_at(case: Case, folder: Path, at: int, manner: Manner) -> FaultyDisk:
    """One request fails; everything is held to what it ought to be."""
    disk = case.fresh(folder)
    before = disk.state
    job = case.job(disk)
    faulty = FaultyDisk(disk.folder, at, manner)
    error: ToolError | None = None
    with faulty.at_work():
        try:
            with trouble.named(str(disk.disk)):
                job()
        except ToolError as reason:
            error = reason
    if error is not None:
        assert isinstance(error, StepFailed)
        assert str(error).endswith(".")
        assert error.hint
        is_true(error.disk_holds, disk, case, before)
    heals(disk, case.known, further=at % 3 == 0)
    shutil.rmtree(folder)
    return faulty


def is_true(sentence: str, disk: VaultDisk, case: Case, before: State) -> None:
    """What is said about the disk is so."""
    state = disk.state
    clean = state.state == "clean" and disk.content == case.known[state.gen]

    def means(text: str) -> bool:
        return sentence == text.format(taken=moment(before.taken))

    if not case.guarded:  # the command says then what the state sector says
        assert not sentence
        assert state.state in {"updating", "rolling-back"} or clean
    elif not sentence or means(transaction.AS_BEFORE):
        assert state == before
        assert clean
    elif means(transaction.COMPLETE):
        assert clean
        assert state.gen == before.gen + 1
    elif means(transaction.GOES_BACK):
        assert state.state == "updating"
    elif means(transaction.UNSURE):
        assert state.state == "updating" or (clean and state == before)
    else:
        assert means(transaction.UNCLEAR), sentence
        assert state.state == "updating" or clean


def heals(disk: VaultDisk, known: dict[int, Content], *, further: bool) -> None:
    """The next run finds a generation, whole; `further`: and goes on from it, and back."""
    assert holding(disk.state)
    state = disk.recover()
    assert state.state == "clean"
    content = known[state.gen]
    assert disk.content == content
    assert generations(disk.vault, state)[0].generation == state.gen
    if further:
        after = next_content(content, 7, 2)
        disk.update(after)
        assert disk.content == after
        disk.roll_back(state.gen)
        assert disk.content == content


@pytest.mark.parametrize("manner", MANNERS)
@pytest.mark.parametrize("what", MAKERS)
def test_a_failure_of_any_request_is_told_and_heals(
    what: str, manner: Manner, folders: Iterator[Path]
) -> None:
    case = MAKERS[what](next(folders))
    known = enumerate(requests(case, next(folders)))
    wanted = [at for at, request in known if matters(request, manner)]
    failed = [fail_at(case, next(folders), at, manner).failed for at in wanted]
    assert len(set(failed)) >= 3


def requests(case: Case, folder: Path) -> list[str]:
    """What there is when all goes well."""
    disk = case.fresh(folder)
    job = case.job(disk)
    faulty = FaultyDisk(disk.folder)
    with faulty.at_work():
        job()
    return faulty.requests
