# SPDX-License-Identifier: GPL-3.0-or-later
"""When an update cannot go its usual way: it says so, begins at most once, and misses nothing."""

import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from builder.change.detector import UseCompare
from builder.change.ext4.detector import Ext4
from builder.still import live, tracker
from builder.still.hooks import Hooks
from builder.still.live import LiveOptions
from core.errors import HookFailed, NeverQuiet, Refused, TrackerLost
from core.model.blockset import BlockSet
from core.model.live import Found
from core.run import run
from tests.support.block import MIB
from tests.support.ext4_pair import grown
from tests.support.live_pair import disturbed, flood
from tests.support.update_pair import OPTIONS, Gathering, Pair

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="loop devices need root")
NOW = ["-O", "metadata_csum_seed,orphan_file,64bit", "-E", "lazy_itable_init=0"]


@pytest.fixture
def pair() -> Iterator[Pair]:
    home = Path("/dev/shm")
    with (
        tempfile.TemporaryDirectory(prefix="dpsr-", dir=home if home.is_dir() else None) as name,
        Pair(Path(name), 96 * MIB, NOW) as each,
        closing(grown(each, 7, 60)),
    ):
        (each.top / "large").write_bytes(os.urandom(20 * MIB))
        each.prepare()
        (each.top / "large").write_bytes(os.urandom(20 * MIB))
        yield each


def test_a_caller_that_refuses_leaves_the_slot_alone(pair: Pair) -> None:
    before = pair.slot.read_bytes()
    told = []

    def begin(found: Found) -> None:
        told.append(found)
        raise Refused("too much")

    with pytest.raises(Refused, match="too much"):
        pair.update(begin=begin)
    assert pair.slot.read_bytes() == before
    (only,) = told
    assert 19 * MIB < only.differs < 25 * MIB
    assert only.used > only.differs
    assert pair.update().detectors == {"root": "ext4"}


@pytest.mark.parametrize("still", [False, True])
def test_a_detector_at_its_wits_end(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, still: bool
) -> None:
    reparse = Ext4.reparse

    def confused(self: Ext4, written: BlockSet, *, still: bool) -> BlockSet:
        if still == hopeless:
            raise UseCompare("the extents of inode 12 make no sense")
        return reparse(self, written, still=still)

    hopeless = still
    monkeypatch.setattr(Ext4, "reparse", confused)
    with disturbed(pair.top / "busy", 3):
        assert pair.update().detectors == {"root": "compare"}
    said = capsys.readouterr().err
    assert said.count("all of it is compared, since the extents of inode 12 make no sense") == 1


def test_a_detector_that_finds_nonsense(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    def find(*_: object) -> BlockSet:
        raise UseCompare("its inode tables were moved since the last backup")

    monkeypatch.setattr(Ext4, "find", find)
    assert pair.update().detectors == {"root": "compare"}


class Begun:
    """Counts."""

    times = 0

    def __call__(self, _: Found) -> None:
        self.times += 1


@pytest.fixture
def small_tracker(monkeypatch: pytest.MonkeyPatch) -> LiveOptions:
    """A tracker that nobody reads in between, with room for 16 KiB of events on each processor."""
    monkeypatch.setattr(tracker, "_SMALLEST", 16384)
    monkeypatch.setattr(tracker, "_EVERY", 600.0)
    return replace(OPTIONS, tracker_buffer=1)


def test_lost_events_after_the_beginning(
    pair: Pair,
    small_tracker: LiveOptions,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(live, "_LARGER", 64 * MIB)
    begun = Begun()

    def begin(found: Found) -> None:
        begun(found)
        flood(pair.top)

    run("sync", "--file-system", str(pair.top))
    instant = pair.update(small_tracker, begin=begin)
    assert capsys.readouterr().err.count("Starting again with a larger buffer") == 1
    assert begun.times == 1
    assert instant.detectors == {"root": "compare"}


def test_lost_events_before_the_beginning(
    pair: Pair,
    small_tracker: LiveOptions,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(live, "_LARGER", 64 * MIB)
    begun = Begun()
    run("sync", "--file-system", str(pair.top))
    instant = pair.update(small_tracker, begin=begun, moments={"settled": lambda: flood(pair.top)})
    assert capsys.readouterr().err.count("Starting again with a larger buffer") == 1
    assert begun.times == 1
    assert instant.detectors == {"root": "ext4"}


def test_events_that_are_lost_twice_end_it(pair: Pair, small_tracker: LiveOptions) -> None:
    begun = Begun()
    with pytest.raises(TrackerLost, match="second time"):
        pair.update(small_tracker, begin=begun, moments={"settled": lambda: flood(pair.top)})
    assert begun.times == 0
    (pair.top / "not frozen").touch()


def test_a_writer_that_never_pauses(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    write = Gathering.write

    def slowly(self: Gathering, offset: int, view: memoryview) -> None:
        time.sleep(len(view) / 4e6)
        write(self, offset, view)

    monkeypatch.setattr(Gathering, "write", slowly)
    for limit in ("_LEFT", "_SMALL"):
        monkeypatch.setattr(live, limit, MIB // 2)
    with disturbed(pair.top / "busy", 1, 0), pytest.raises(NeverQuiet, match="writes faster"):
        pair.update()
    (pair.top / "not frozen").touch()


def test_another_agent_that_freezes_at_the_same_time(
    pair: Pair, capsys: pytest.CaptureFixture[str]
) -> None:
    run("fsfreeze", "--freeze", str(pair.top))
    thaw = threading.Timer(2, lambda: run("fsfreeze", "--unfreeze", str(pair.top)))
    thaw.start()
    try:
        pair.update()
    finally:
        thaw.join()
    assert "Another program keeps" in capsys.readouterr().err


def test_a_write_in_the_freeze_is_noticed_by_the_tracker(
    pair: Pair, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another program thaws, writes, and freezes again: every thaw of ours succeeds."""
    times = []

    def meddle() -> None:
        times.append(time.monotonic())
        if len(times) > 1:
            return
        run("fsfreeze", "--unfreeze", str(pair.top))
        with (pair.top / "meddled").open("wb") as stream:
            stream.write(b"x" * MIB)
            stream.flush()
            os.fsync(stream.fileno())
        run("fsfreeze", "--freeze", str(pair.top))

    pair.update(moments={"frozen": meddle})
    assert "wrote to the volume of root in the freeze. Trying again" in capsys.readouterr().err
    assert len(times) == 2


def test_a_limited_bandwidth(pair: Pair) -> None:
    begun = time.monotonic()
    pair.update(replace(OPTIONS, bandwidth=20 * MIB))
    # Both sides are read, and one is written; the first half second is free.
    assert time.monotonic() - begun > 2.5


# --- hooks --------------------------------------------------------------------------------------


def test_hooks_run_around_the_freeze(pair: Pair, tmp_path: Path) -> None:
    said = tmp_path / "said"
    note = f'echo "$DPSR_HOOK $DPSR_MOUNTPOINTS $(date +%s%N)" >> {said}'
    # A session that holds a lock stays behind, until the other hook ends it.
    hooks = Hooks(
        f"{note}; sleep 100 & echo $! > {tmp_path}/session",
        f"{note}; kill $(cat {tmp_path}/session)",
    )
    instant = pair.update(replace(OPTIONS, hooks=hooks))
    lines = [line.split() for line in said.read_text().splitlines()]
    assert [line[:2] for line in lines] == [
        ["before_freeze", str(pair.top)], ["after_thaw", str(pair.top)],
    ]  # fmt: skip
    assert int(lines[0][2]) < instant.taken * 1e9 < int(lines[1][2])


def test_what_a_hook_writes_is_in_the_backup(pair: Pair) -> None:
    pair.update(replace(OPTIONS, hooks=Hooks(f"echo flushed > {pair.top}/database")))
    assert b"flushed\n" in pair.slot.read_bytes()  # and it is what was frozen


def test_nothing_is_copied_while_a_hook_holds_a_lock(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lock = tmp_path / "lock"
    told: list[tuple[str, bool]] = []

    def watch(name: str) -> None:
        work = getattr(live._Live, name)

        def watched(*args: object) -> object:
            told.append((name, lock.exists()))
            return work(*args)

        monkeypatch.setattr(live._Live, name, watched)

    watch("_pass")
    watch("_freeze")
    monkeypatch.setattr(live, "_LEFT", 4 * MIB)
    hooks = Hooks(
        # The first time much is brought to the disk, as by a checkpoint.
        f"touch {lock}; cd {pair.top}; test -e checkpoint ||"
        " dd if=/dev/urandom of=checkpoint bs=1M count=24",
        f"rm {lock}; echo thawed >> {tmp_path}/thaws",
    )
    pair.update(replace(OPTIONS, hooks=hooks))
    assert (tmp_path / "thaws").read_text() == "thawed\n" * 2
    assert told[-2:] == [("_pass", False), ("_freeze", True)]
    assert ("_pass", True) not in told
    assert capsys.readouterr().err.count("They are copied first, while it holds no lock.") == 1


def test_a_hook_that_always_writes_much(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "_LEFT", 2 * MIB)
    hooks = Hooks(
        f"dd if=/dev/urandom of={pair.top}/dump bs=1M count=9", f"echo >> {tmp_path}/thaws"
    )
    with pytest.raises(HookFailed, match=r"before_freeze brought .* of changes .* each time"):
        pair.update(replace(OPTIONS, hooks=hooks))
    assert len((tmp_path / "thaws").read_text()) == 5
    (pair.top / "not frozen").touch()


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("echo no server; exit 3", "failed with exit status 3. It printed: no server"),
        ("echo waiting >&2; sleep 100", r"did not end within 0.5 s. It printed: waiting"),
        ("exit 1", "failed with exit status 1. It printed nothing."),
    ],
)
def test_a_hook_that_fails_ends_the_update(
    pair: Pair, tmp_path: Path, command: str, says: str
) -> None:
    hooks = Hooks(command, f"touch {tmp_path}/after", seconds=0.5)
    with pytest.raises(HookFailed) as failed:
        pair.update(replace(OPTIONS, hooks=hooks))
    assert str(failed.value) == f"before_freeze {says}"
    assert (tmp_path / "after").exists()
    (pair.top / "not frozen").touch()


def test_a_hook_that_fails_afterwards_is_a_warning(
    pair: Pair, capsys: pytest.CaptureFixture[str]
) -> None:
    pair.update(replace(OPTIONS, hooks=Hooks(after_thaw="echo $((1 + 1)); false")))
    said = capsys.readouterr().err
    assert "Attention: after_thaw failed with exit status 1. It printed: 2" in said
