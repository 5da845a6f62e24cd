# SPDX-License-Identifier: GPL-3.0-or-later
"""`dpsr rollback` from end to end on a disk of files: done, refused, interrupted, gone on with."""

import json
import signal
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import pytest

from builder.vault.recovery import recover
from core.files import lock
from core.run import run
from core.screen import moment
from grub.state import pack
from tests.support.block import mounted
from tests.support.rollback_command import Command, Ended, prepared
from tests.support.vault_disk import STATE_AT, no_change

POINTS = ("rolling-back", "replay-destroyed", "replay-content", "replayed", "rolled-back")
BACK = ("rollback", "1", "--yes")


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Command]:
    with prepared(tmp_path / "disk") as made:
        yield made


def holds(command: Command, generation: int) -> None:
    """The disk says that it holds this generation, and does."""
    assert (command.disk.state.state, command.disk.state.gen) == ("clean", generation)
    assert command.disk.content == command.contents[generation - 1]


def well(ended: Ended) -> Ended:
    assert ended.status == 0, ended
    return ended


def test_it_goes_back_and_says_so(command: Command, tmp_path: Path) -> None:
    said = well(command.run(*BACK))
    holds(command, 1)
    assert "the DPSR disk holds generation 1 again" in said.err
    assert moment(command.disk.state.taken) in said.err.splitlines()[-1]
    assert said.out == ""
    record = command.record
    assert (record["generation"], record["txid"]) == (1, command.disk.state.txid)
    assert (record["counters"], record["mounts"]) == (None, [])
    with mounted(command.device, tmp_path / "mnt") as vault:
        found = {path.name for path in vault.iterdir()} - {"lost+found"}
    assert found == {f"manifest-{command.disk.state.txid}.json"}


def test_programs_are_told_what_was_done(command: Command) -> None:
    document = json.loads(well(command.run(*BACK, "--json")).out)
    assert (document["generation"], document["changed"]) == (1, True)
    assert [each["generation"] for each in document["lost"]] == [3, 2]
    document = json.loads(well(command.run(*BACK, "--json")).out)
    assert (document["changed"], document["lost"]) == (False, [])


def test_step_by_step(command: Command) -> None:
    for generation in (2, 1):
        well(command.run("rollback", str(generation), "--yes"))
        holds(command, generation)


def test_where_it_is_already_nothing_happens(command: Command) -> None:
    with no_change(command.disk):
        said = well(command.run("rollback", "3", "--yes"))
    assert "holds generation 3 already" in said.err
    assert not (command.disk.folder / "record").exists()


def test_the_list_writes_nothing(command: Command) -> None:
    before = command.image.read_bytes()
    with no_change(command.disk):
        said = well(command.run("rollback"))
        document = json.loads(well(command.run("rollback", "--json")).out)
    assert command.image.read_bytes() == before
    assert [line.split()[0] for line in said.out.splitlines()[1:4]] == ["3*", "2", "1"]
    assert "dpsr rollback 2" in said.out.splitlines()[-1]
    assert [each["reachable"] for each in document["generations"]] == [False, True, True]
    sizes = [each["undo_bytes"] for each in document["generations"]]
    assert sizes == sorted(sizes)
    assert sizes[0] == 0 < sizes[1]


# --- refused --------------------------------------------------------------------------------------


def refused(command: Command, status: int, *words: str) -> str:
    """Nothing changes, and the person hears what the disk holds."""
    with no_change(command.disk):
        said = command.run(*words)
    assert said.status == status, said
    assert said.out == ""
    return said.err


def test_nobody_there_to_answer(command: Command) -> None:
    assert "or with --yes" in refused(command, 37, "rollback", "1")


def test_no_such_generation(command: Command) -> None:
    said = refused(command, 41, "rollback", "7", "--yes")
    assert "there is to: 2, 1" in said
    assert "holds generation 3, the system as it was at" in said


def test_the_copy_was_booted(command: Command) -> None:
    command.disk.say(booted=True)
    for number in ("1", "3"):
        assert "the way back is closed" in refused(command, 40, "rollback", number, "--yes")
    listed = well(command.run("rollback")).out
    assert "the way back is closed" in listed
    document = json.loads(well(command.run("rollback", "--json")).out)
    assert document["closed"]
    assert not any(each["reachable"] for each in document["generations"])


def test_another_dpsr_is_at_work(command: Command) -> None:
    with lock(command.disk.folder / "lock", "update"):
        assert "dpsr update" in refused(command, 26, *BACK)


def test_a_first_copy_that_is_not_complete(command: Command) -> None:
    text = command.disk.disk.read_bytes()
    changed = bytearray(text)
    state = command.disk.state
    changed[STATE_AT : STATE_AT + len(pack(state))] = pack(
        type(state)("building", extra=state.extra)
    )
    command.disk.disk.write_bytes(changed)
    assert "never completed" in refused(command, 27, *BACK)


def test_a_damaged_log_is_seen_before_anything_is_written(command: Command, tmp_path: Path) -> None:
    with mounted(command.device, tmp_path / "mnt") as vault:
        name = json.loads((vault / f"manifest-{command.disk.state.txid}.json").read_text())
        path = vault / name["manifest"]["undo_log"]
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    said = refused(command, 65, *BACK)
    assert "holds generation 3" in said
    assert "only the way back is lost" in said


def test_a_vault_that_cannot_be_mounted(command: Command) -> None:
    run("mke2fs", "-q", "-F", "-t", "ext2", "-O", "^has_journal", command.device)
    said = refused(command, 52, *BACK)
    assert "holds generation 3" in said


# --- interrupted ----------------------------------------------------------------------------------


@pytest.mark.parametrize("point", POINTS)
def test_killed_it_is_gone_on_with(command: Command, point: str) -> None:
    """Killed twice; then the rescue system, or the next update, ends it."""
    command.stopped_at(point, signal.SIGKILL, *BACK)
    state = command.disk.state
    expected = "clean" if point == "rolled-back" else "rolling-back"
    assert (state.state, state.gen) == (expected, 1 if point == "rolled-back" else 3)
    if point != "rolled-back":
        listed = json.loads(well(command.run("rollback", "--json")).out)
        assert (listed["state"], listed["to"]) == ("rolling-back", 1)
        if point != "rolling-back":
            command.stopped_at(point, signal.SIGKILL, *BACK)
    disk = command.disk
    recover(str(disk.disk), STATE_AT, command.device, disk.slot_path, disk.screen)
    holds(command, 1)


@pytest.mark.parametrize(
    ("point", "number"),
    list(zip(POINTS, cycle((signal.SIGINT, signal.SIGTERM)), strict=False)),
)
def test_ended_by_a_signal_it_says_how_to_go_on(
    command: Command, point: str, number: signal.Signals
) -> None:
    said = command.stopped_at(point, number, *BACK)
    assert said.status == (130 if number == signal.SIGINT else 143), said
    assert said.err.splitlines()[-2] == "dpsr: Interrupted."
    if point == "rolled-back":
        assert "holds generation 1, the system as it was at" in said.err.splitlines()[-1]
        holds(command, 1)
        said = well(command.run(*BACK))
        assert "holds generation 1 already" in said.err
    else:
        assert command.disk.state.state == "rolling-back"
        assert "`dpsr rollback 1` and `dpsr update` go on with it" in said.err.splitlines()[-1]
        said = well(command.run(*BACK))
        assert "Going on with the way back to generation 1" in said.err
        assert "holds generation 1 again" in said.err
        assert command.record["generation"] == 1
    holds(command, 1)


def test_ended_while_it_goes_on(command: Command) -> None:
    command.stopped_at("replay-content", signal.SIGKILL, *BACK)
    said = command.stopped_at("replay-destroyed", signal.SIGTERM, *BACK)
    assert said.status == 143, said
    assert "go on with it" in said.err.splitlines()[-1]
    well(command.run(*BACK))
    holds(command, 1)


def test_another_number_than_the_one_begun_with(command: Command) -> None:
    """What was begun is ended first: what lies above is lost already."""
    command.stopped_at("replay-content", signal.SIGKILL, "rollback", "2", "--yes")
    said = command.run("rollback", "3", "--yes")
    assert said.status == 41, said
    assert "there is to: 1" in said.err
    holds(command, 2)
    well(command.run(*BACK))
    holds(command, 1)


def test_a_slot_that_does_not_take_it(command: Command) -> None:
    """It is half way back then, and says so."""
    slot = Path(command.disk.slot_path(4))
    away = slot.rename(slot.with_name("away"))
    slot.symlink_to("/dev/full")
    said = command.run(*BACK)
    assert said.status == 65, said
    assert "on its way back to generation 1" in said.err
    slot.unlink()
    away.rename(slot)
    well(command.run(*BACK))
    holds(command, 1)


def test_a_full_vault_does_not_stop_it(tmp_path: Path) -> None:
    with prepared(tmp_path / "disk", vault_size=4 << 20) as command:
        with mounted(command.device, tmp_path / "mnt") as vault:
            run("sh", "-c", f"cat /dev/zero > {vault}/ballast || :; test -s {vault}/ballast")
        command.stopped_at("replay-content", signal.SIGKILL, *BACK)
        well(command.run(*BACK))
        holds(command, 1)


def test_a_vault_that_is_no_more(command: Command) -> None:
    with open(command.device, "r+b") as stream:
        stream.write(bytes(command.image.stat().st_size))
    for words in (BACK, ("rollback",)):
        said = command.run(*words)
        assert said.status in {51, 52}, said
        assert "Traceback" not in said.err
    said = command.run(*BACK)
    assert "The DPSR disk holds generation 3" in said.err
    holds(command, 3)


def test_a_vault_that_lost_its_manifests(command: Command, tmp_path: Path) -> None:
    with mounted(command.device, tmp_path / "mnt") as vault:
        for path in vault.glob("manifest-*"):
            path.unlink()
    said = command.run(*BACK)
    assert said.status == 52, said
    assert "has lost all its manifests" in said.err
    assert "The DPSR disk holds generation 3" in said.err
    assert "`dpsr prepare --again` makes it anew" in said.err
