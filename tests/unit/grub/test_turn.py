# SPDX-License-Identifier: GPL-3.0-or-later
"""Which entry the firmware is told to start: once, for good, and back to what was found."""

import random

import pytest

from core.errors import BootOrderFailed, NoWayThere
from grub.order import ClearNext, SetNext, SetOrder, Wish, bring_about, ensure_entry
from grub.turn import Turn, as_text, from_text, next_step, starts_next
from tests.support.fake_efibootmgr import FakeFirmware
from tests.support.two_sides import (
    CONTROL,
    DEBIAN,
    OURS,
    PRIMARY,
    PXE,
    SETUP,
    SHELL,
    WISH,
    firmware,
)


def make(found: FakeFirmware, turn: Turn, wish: Wish = WISH) -> None:
    bring_about(found, "/dev/sdb", 2, lambda now: next_step(now, wish, turn))


def test_for_good_the_copy_is_first_and_the_rest_as_it_was() -> None:
    found = firmware(PXE, DEBIAN, OURS, SHELL)
    make(found, Turn("dpsr"))
    assert found.order == [2, 0, 1, 3]
    assert found.boot() == 2


def test_once_is_once() -> None:
    found = firmware(DEBIAN, OURS, SHELL)
    make(found, Turn("dpsr", once=True))
    assert (found.boot(), found.boot()) == (1, 0)
    assert found.order == [0, 1, 2]


def test_an_entry_that_is_missing_is_made_and_put_into_the_order_first() -> None:
    found = firmware(DEBIAN, SHELL)
    make(found, Turn("dpsr", once=True))
    assert found.asked == ["create", "set_order", "set_next"]
    assert found.order == [0, 2, 1]


def test_back_is_the_order_that_was_found_also_an_odd_one() -> None:
    found = firmware(DEBIAN, SETUP, SHELL, OURS)
    odd = (1, 0, 2, 3)
    found.order = list(odd)
    make(found, Turn("dpsr"))
    make(found, Turn("primary", found=odd))
    assert tuple(found.order) == odd


def test_back_leaves_out_what_is_gone_and_keeps_what_came() -> None:
    found = firmware(DEBIAN, SETUP, OURS, SHELL)
    make(found, Turn("dpsr"))
    found.delete(1)
    found.entries[9] = PXE
    found.order.append(9)
    make(found, Turn("primary", found=(0, 1, 2, 3)))
    assert found.order == [0, 2, 3, 9]


def test_back_without_knowing_the_order_puts_the_copy_behind_the_primary() -> None:
    found = firmware(OURS, DEBIAN, SHELL)
    make(found, Turn("primary"))
    assert found.order == [1, 0, 2]


def test_back_takes_a_pending_start_of_the_copy_away_and_no_other() -> None:
    found = firmware(DEBIAN, OURS, SETUP, next=1)
    make(found, Turn("primary", found=(0, 1, 2)))
    assert found.next is None
    found.next = 2
    make(found, Turn("primary", found=(0, 1, 2)))
    assert found.next == 2


def test_the_primary_once_needs_an_entry_of_it() -> None:
    found = firmware(OURS, DEBIAN)
    make(found, Turn("primary", once=True))
    assert found.boot() == 1
    with pytest.raises(NoWayThere):
        make(firmware(OURS, SHELL, current=None), Turn("primary", once=True))


def test_what_is_there_already_is_not_written_again() -> None:
    found = firmware(DEBIAN, OURS)
    for turn in (Turn("dpsr"), Turn("dpsr", once=True), Turn("primary", found=(0, 1))):
        make(found, turn)
        before = len(found.asked)
        make(found, turn)
        assert len(found.asked) == before


def test_an_update_leaves_a_switched_order_alone() -> None:
    found = firmware(DEBIAN, OURS, SHELL)
    make(found, Turn("dpsr"))
    assert ensure_entry("/dev/sdb", 2, CONTROL, [PRIMARY], first=True, manager=found) == []
    assert found.order == [1, 0, 2]
    assert ensure_entry("/dev/sdb", 2, CONTROL, [PRIMARY], manager=found) == []
    assert found.order == [0, 1, 2]


@pytest.mark.parametrize("what", ["create", "set_order", "set_next"])
@pytest.mark.parametrize("how", ["refuses", "ignores"])
def test_a_firmware_that_refuses_or_forgets_is_noticed(what: str, how: str) -> None:
    turn = Turn("dpsr", once=what == "set_next")
    found = firmware(DEBIAN, SHELL, **{how: what})
    with pytest.raises(BootOrderFailed):
        make(found, turn)


def _debian_first(found: FakeFirmware) -> None:
    found.order.sort(key=lambda number: found.entries[number] != DEBIAN)


def _drop_next(found: FakeFirmware) -> None:
    found.next = None


@pytest.mark.parametrize(
    ("after", "turn"),
    [(_debian_first, Turn("dpsr")), (_drop_next, Turn("dpsr", once=True))],
)
def test_a_firmware_that_reorders_or_loses_is_noticed(after: object, turn: Turn) -> None:
    found = firmware(DEBIAN, OURS, SHELL, after=after)
    with pytest.raises(BootOrderFailed, match="did not keep it"):
        make(found, turn)


def test_200_random_switches_leave_all_as_found() -> None:
    chance = random.Random(5)
    for _ in range(8):
        entries = [DEBIAN, OURS, *chance.sample([SETUP, PXE, SHELL, DEBIAN], 3)]
        chance.shuffle(entries)
        found = firmware(*entries)
        kept = dict(found.entries)
        order: tuple[int, ...] = ()
        before = tuple(found.order)
        for _ in range(25):
            turn = chance.choice(
                [Turn("dpsr"), Turn("dpsr", once=True), Turn("primary"), Turn("primary", once=True)]
            )
            if turn == Turn("dpsr") and not order:
                order = tuple(found.order)
            if turn == Turn("primary"):
                turn = Turn("primary", found=order or before)
                order = ()
            make(found, turn)
            if chance.random() < 0.3:
                found.boot()
        make(found, Turn("primary", found=order or before))
        if found.next is not None:
            found.boot()
        assert (tuple(found.order), found.entries) == (before, kept)


def test_it_can_be_told_what_starts_next() -> None:
    found = firmware(DEBIAN, OURS, SETUP)
    assert starts_next(found.read(), WISH) == "primary"
    found.next = 1
    assert starts_next(found.read(), WISH) == "dpsr"
    found.next = 2
    assert starts_next(found.read(), WISH) is None
    found.next = None
    found.off = {0}
    assert starts_next(found.read(), WISH) == "dpsr"


def test_an_order_is_written_as_efibootmgr_does() -> None:
    assert as_text((0, 0x1A, 3)) == "0000,001A,0003"
    assert from_text("0000,001A,0003") == (0, 0x1A, 3)
    assert from_text("") == from_text("-") == ()


def test_steps_say_what_was_asked() -> None:
    assert str(SetNext(3)) == "start Boot0003 next"
    assert str(SetOrder((1, 2))) == "set the boot order to 0001,0002"
    assert "forget" in str(ClearNext())
