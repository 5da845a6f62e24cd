# SPDX-License-Identifier: GPL-3.0-or-later
"""The scripts of `--emit`; tests/device runs them through sh and GRUB's own checker."""

from datetime import UTC, datetime

import pytest

from grub.primary import menu
from grub.turn import Turn
from recovery import emit
from tests.support.two_sides import DEBIAN, OURS, SET, SHELL, WISH, firmware

FACTS = emit.Facts(
    "host\nrm -rf /", "/dev/disk/by-id/odd name", 2, datetime(2025, 1, 2, tzinfo=UTC)
)


def test_every_line_of_a_hostile_name_stays_a_comment() -> None:
    text = emit.by_firmware(FACTS, Turn("dpsr"), firmware(DEBIAN, ("a\tb", "x"), OURS).read(), WISH)
    assert "\nrm -rf" not in text
    assert "'/dev/disk/by-id/odd name'" in text


@pytest.mark.parametrize(
    ("turn", "line"),
    [
        (Turn("dpsr"), 'efibootmgr -o "$entry,0000,0001"'),
        (Turn("dpsr", once=True), 'efibootmgr -n "$entry"'),
        (Turn("primary", found=(1, 0, 2)), 'efibootmgr -o "0001,0000,$entry"'),
        (Turn("primary"), 'efibootmgr -o "0000,$entry,0001"'),
        (Turn("primary", once=True), 'efibootmgr -n "0000"'),
    ],
)
def test_it_does_what_the_command_would(turn: Turn, line: str) -> None:
    nvram = firmware(DEBIAN, SHELL, OURS).read()
    assert line in emit.by_firmware(FACTS, turn, nvram, WISH).splitlines()


@pytest.mark.parametrize(
    ("turn", "line"),
    [
        (Turn("dpsr"), "  GRUB_DEFAULT=dpsr"),
        (Turn("dpsr", once=True), "grub-editenv /boot/grub/grubenv set next_entry=dpsr"),
        (Turn("primary"), "update-grub"),
        (Turn("primary", once=True), "grub-editenv /boot/grub/grubenv set next_entry=0"),
    ],
)
def test_by_bios(turn: Turn, line: str) -> None:
    assert line in emit.by_menu(FACTS, turn, "dpsr", menu([SET])).splitlines()
