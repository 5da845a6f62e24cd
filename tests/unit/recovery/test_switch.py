# SPDX-License-Identifier: GPL-3.0-or-later
"""`dpsr switch` with a firmware, or a menu, that may misbehave: what is changed, kept and said."""

from dataclasses import replace
from pathlib import Path

import pytest

from core.errors import BootOrderFailed, CannotWrite, CopyNotComplete, NoWayThere
from core.model.state import State
from core.screen import PlainScreen
from dpsr.turns import as_data, as_text, done
from grub import order
from grub.guard import Facts, PrimaryGuard, script
from grub.primary import PrimaryMenu
from grub.turn import Turn
from recovery import announce, found_order, switch
from recovery.sides import Sides
from tests.support.fake_efibootmgr import FakeFirmware
from tests.support.two_sides import CONTROL, DEBIAN, OURS, SHELL, STATE, firmware, sides

SAMPLE = Path(__file__).parents[2] / "data/formats/boot-order-v1.json"
DPSR, ONCE, PRIMARY = Turn("dpsr"), Turn("dpsr", once=True), Turn("primary")


@pytest.fixture(autouse=True)
def record(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """What the primary keeps lies in a folder of the test."""
    path = tmp_path / "boot-order.json"
    for name in ("keep", "read", "drop"):
        monkeypatch.setattr(getattr(found_order, name), "__defaults__", (path,))
    return path


def turn(found: Sides, wanted: Turn, nvram: FakeFirmware) -> None:
    switch.by_firmware(found, wanted, nvram, PlainScreen())


def test_for_good_and_back_from_the_other_side(tmp_path: Path, record: Path) -> None:
    nvram = firmware(DEBIAN, SHELL, OURS)
    turn(here := sides(tmp_path), DPSR, nvram)
    assert nvram.order == [2, 0, 1]
    assert (here.state.order, here.state.trial) == ("0000,0001,0002", "")
    assert record.exists()
    turn(there := sides(tmp_path, "dpsr"), PRIMARY, nvram)
    assert nvram.order == [0, 1, 2]
    assert there.state == STATE
    turn(sides(tmp_path), DPSR, nvram)
    turn(sides(tmp_path), DPSR, nvram)
    assert sides(tmp_path).state.order == "0000,0001,0002", "the second time keeps the first order"
    turn(sides(tmp_path), PRIMARY, nvram)
    assert not record.exists()
    assert sides(tmp_path).state == STATE


def test_an_order_that_started_the_copy_comes_back_and_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nvram = firmware(OURS, DEBIAN, SHELL)
    turn(sides(tmp_path), DPSR, nvram)
    assert "Attention" not in capsys.readouterr().err
    turn(sides(tmp_path), PRIMARY, nvram)
    assert nvram.order == [0, 1, 2]
    assert "did not start the primary first" in capsys.readouterr().err


def test_once_is_a_trial_until_it_is_called_off_or_kept(tmp_path: Path) -> None:
    nvram = firmware(DEBIAN, OURS, SHELL)
    turn(sides(tmp_path), ONCE, nvram)
    assert sides(tmp_path).state.trial == "1"
    turn(sides(tmp_path), PRIMARY, nvram)
    assert (sides(tmp_path).state.trial, nvram.next) == ("", None)
    turn(sides(tmp_path), ONCE, nvram)
    turn(sides(tmp_path, "dpsr"), DPSR, nvram)
    assert sides(tmp_path).state.trial == "", "what is done on the copy is work by now"


def test_what_was_done_in_a_trial_stays_a_trial_on_the_way_back(tmp_path: Path) -> None:
    started = replace(STATE.with_trial("2"), booted=True)
    nvram = firmware(DEBIAN, OURS, SHELL)
    for side in ("dpsr", "primary"):
        turn(sides(tmp_path, side, state=started), PRIMARY, nvram)
        assert sides(tmp_path).state.trial == "2"


@pytest.mark.parametrize(("before", "after"), [("", ""), ("2", "1")])
def test_work_from_before_is_given_up_by_no_trial(tmp_path: Path, before: str, after: str) -> None:
    nvram = firmware(DEBIAN, OURS, SHELL)
    worked_on = replace(STATE.with_trial(before), booted=True)
    turn(sides(tmp_path, state=worked_on), ONCE, nvram)
    assert sides(tmp_path).state.trial == after


def test_from_the_copy_no_start_is_a_trial(tmp_path: Path) -> None:
    turn(sides(tmp_path, "dpsr"), ONCE, firmware(DEBIAN, OURS))
    assert sides(tmp_path).state.trial == ""


def test_on_the_copy_the_entry_that_started_it_is_not_the_primarys(tmp_path: Path) -> None:
    disk = ("UEFI disk", "PciRoot(0x0)/Pci(0x3,0x0)")
    nvram = firmware(disk, OURS, SHELL, current=0)
    with pytest.raises(NoWayThere, match="no entry that starts the primary"):
        turn(sides(tmp_path, "dpsr"), Turn("primary", once=True), nvram)


@pytest.mark.parametrize("what", ["create", "set_order", "set_next"])
def test_refused_nothing_is_changed_and_said(tmp_path: Path, what: str, record: Path) -> None:
    entries = (DEBIAN, SHELL) if what == "create" else (DEBIAN, OURS)
    nvram = firmware(*entries, refuses=what)
    with pytest.raises(CannotWrite, match=r"read-only.*Nothing was changed") as told:
        turn(sides(tmp_path), ONCE if what == "set_next" else DPSR, nvram)
    assert "boot menu" in told.value.hint
    assert sides(tmp_path).state == STATE


def test_full_memory_is_said(tmp_path: Path) -> None:
    with pytest.raises(CannotWrite, match="full"):
        turn(sides(tmp_path), DPSR, firmware(DEBIAN, SHELL, capacity=2))


def test_a_firmware_that_cannot_be_read_is_no_way(tmp_path: Path) -> None:
    with pytest.raises(NoWayThere):
        turn(sides(tmp_path), DPSR, firmware(DEBIAN, OURS, refuses="read"))


def test_half_done_it_is_said_where_the_next_start_goes(tmp_path: Path) -> None:
    nvram = firmware(DEBIAN, SHELL, ignores="set_order")
    with pytest.raises(BootOrderFailed, match="goes to the primary"):
        turn(sides(tmp_path), DPSR, nvram)


def test_a_firmware_that_undoes_it_at_the_next_start_is_noticed(tmp_path: Path) -> None:
    nvram = firmware(DEBIAN, OURS, SHELL)
    turn(sides(tmp_path), DPSR, nvram)
    nvram.order = [0, 1, 2]
    found = switch.standing_by(sides(tmp_path), nvram.read())
    assert (found.next, found.switched) == ("primary", True)
    assert "did not keep" in as_text(found)


def test_what_it_says(tmp_path: Path) -> None:
    nvram = firmware(DEBIAN, OURS, SHELL)
    turn(sides(tmp_path), ONCE, nvram)
    found = switch.standing_by(sides(tmp_path), nvram.read())
    text = as_text(found)
    assert "starts next  the DPSR disk (once only)" in text
    assert "forgotten by the next update" in text
    assert as_data(found)["order"] == ["debian", order.LABEL, "Shell"]
    assert {done(each) for each in (DPSR, ONCE, PRIMARY)} != {""}


@pytest.mark.parametrize(
    "state",
    [
        State("building"),
        replace(STATE, state="updating"),
        replace(STATE, state="rolling-back", to=3),
    ],
)
def test_never_to_an_incomplete_copy(tmp_path: Path, state: State) -> None:
    with pytest.raises(CopyNotComplete, match="Nothing was changed"):
        switch.refuse_incomplete(sides(tmp_path, state=state))


def test_by_bios_the_copy_cannot_choose_and_says_what_a_person_does(tmp_path: Path) -> None:
    with pytest.raises(NoWayThere) as told:
        switch.by_menu(sides(tmp_path, "dpsr", "bios"), PRIMARY, PrimaryMenu(), PlainScreen())
    assert "menu" in told.value.hint


def test_from_the_copy_the_guard_is_told_to_try_the_primary_again(tmp_path: Path) -> None:
    guard = PrimaryGuard(ours=tmp_path / "guard.cfg")
    guard.ours.write_text(script(Facts(3, "D0D0-1234", "/boot/grub/dpsr-guard.env")))
    switch.by_menu(
        there := sides(tmp_path, "dpsr", "bios"), PRIMARY, PrimaryMenu(), PlainScreen(), guard
    )
    assert dict(there.state.extra)["primary"] == "1"
    nvram = firmware(OURS, DEBIAN)
    switch.by_firmware(uefi := sides(tmp_path, "dpsr"), PRIMARY, nvram, PlainScreen(), guard)
    assert dict(uefi.state.extra)["primary"] == "1"
    assert nvram.order == [1, 0]


def test_a_long_order_is_kept_on_the_primary_alone(record: Path) -> None:
    long = tuple(range(60))
    state = found_order.with_order(STATE, long)
    assert state.order == found_order.NO_ROOM
    found_order.keep(long, CONTROL)
    assert found_order.read(state, CONTROL) == long
    assert found_order.read(state, "another disk") == ()
    record.write_text("{}")
    assert found_order.read(state, CONTROL) == ()


def test_the_sample_of_version_1_is_read() -> None:
    state = STATE.with_order(found_order.NO_ROOM)
    assert found_order.read(state, CONTROL, SAMPLE) == (0, 3, 1)


def test_one_start_is_a_trial_and_no_more() -> None:
    first = announce.after_start(STATE.with_trial("1"))
    assert first.trial == "2"
    assert "FORGOTTEN" in announce.words(first)
    second = announce.after_start(first)
    assert second == STATE
    assert "is kept" in announce.words(second)
    assert "2025-11-22 03:00 UTC" in announce.words(second)
    assert "RUNS FROM THE DPSR DISK" in announce.words(None)
