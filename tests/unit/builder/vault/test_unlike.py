# SPDX-License-Identifier: GPL-3.0-or-later
"""Work on the copy, writes that the disk lost, and damage are told apart; work is kept."""

from dataclasses import replace

import pytest

from builder.vault import manifests, mend, unlike
from builder.vault.unlike import Unlike
from core.model.figures import RunFigures
from core.model.manifest import SlotState
from core.model.state import State
from core.record import Counters, Record
from tests.support.data import DATA

BLOCK = (DATA / "ext4" / "superblock.bin").read_bytes()
HASH = manifests.digest(BLOCK)
SLOT = SlotState("root", "/", "ext4", 3, 0, 1 << 30, "aa" * 16, "bb" * 16)
BEFORE = replace(SLOT, superblock=HASH, journal="cc" * 16)
SEEN = (HASH, "dd" * 16)


def changed(at: int, more: bytes = b"\x5a") -> bytes:
    return BLOCK[:at] + more + BLOCK[at + len(more) :]


def test_a_superblock_that_nobody_knows_is_work() -> None:
    assert unlike.why(BLOCK, SEEN, SLOT, []) == "work"
    assert unlike.why(BLOCK, SEEN, SLOT, [replace(SLOT, superblock="ee" * 16)]) == "work"


def test_one_of_an_earlier_generation_is_a_lost_write() -> None:
    assert unlike.why(BLOCK, SEEN, SLOT, [BEFORE]) == "lost"


def test_so_are_the_zeros_of_an_update() -> None:
    assert unlike.why(bytes(1024), ("", ""), SLOT, []) == "lost"


@pytest.mark.parametrize("at", [0, 0x38, 0x68, 0x34, 0x3FE])
def test_a_superblock_that_rotted_is_damage(at: int) -> None:
    assert unlike.why(changed(at), (HASH, SLOT.journal), SLOT, [BEFORE]) == "damage"
    assert unlike.why(changed(at), ("", ""), SLOT, [BEFORE]) == "damage"


def test_one_that_was_torn_while_the_copy_ran_is_work() -> None:
    """A mount writes the journal, too: a power cut in the superblock's write hides no work."""
    assert unlike.why(changed(0x34), SEEN, SLOT, [BEFORE]) == "work"


def test_without_a_checksum_only_its_magic_number_tells() -> None:
    plain = bytearray(BLOCK)
    plain[0x65] &= ~0x04  # metadata_csum
    assert unlike.why(bytes(plain), SEEN, SLOT, []) == "work"
    plain[0x38] = 0
    assert unlike.why(bytes(plain), ("", ""), SLOT, []) == "damage"


def test_a_journal_alone_is_changed_by_no_mount() -> None:
    wanted = replace(SLOT, superblock=HASH)
    assert unlike.why(BLOCK, (HASH, "dd" * 16), wanted, []) == "damage"
    assert unlike.why(BLOCK, (HASH, "cc" * 16), wanted, [BEFORE]) == "lost"
    assert unlike.why(BLOCK, (HASH, ""), wanted, [replace(BEFORE, journal="")]) == "damage"


def test_the_checksum_is_that_of_the_kernel() -> None:
    assert mend.crc32c(b"123456789") == 0xE3069283 ^ 0xFFFFFFFF


STATE = State("clean", gen=4, taken="2026-11-22T18:00:00+00:00", txid="44" * 16, slot="AB-12")
KNOWN = Record(
    "system", 5, "55" * 16, "2026-11-22T19:00:00+00:00", RunFigures(1.0, 1, 1, 1, 0.1, "ext4"),
    counters=Counters("boot", ()),
)  # fmt: skip


def test_a_disk_that_is_older_than_what_was_recorded_lost_a_commit() -> None:
    assert "at generation 4, and generation 5 was complete" in unlike.older(STATE, KNOWN)


@pytest.mark.parametrize(
    ("state", "known"),
    [
        (STATE, None),
        (replace(STATE, txid=KNOWN.txid), KNOWN),
        (replace(STATE, taken="2026-11-22T20:00:00+00:00"), KNOWN),  # made anew, not recorded
        (STATE, replace(KNOWN, counters=None)),  # on the way back, ended by the rescue system
        (replace(STATE, booted=True), KNOWN),
    ],
)
def test_other_reasons_to_be_older_are_no_fault(state: State, known: Record | None) -> None:
    assert unlike.older(state, known) == ""


def test_what_people_are_told() -> None:
    found = [Unlike("root", "/", "lost"), Unlike("home", "/home", "damage")]
    lost, damaged = unlike.faults(found, ["the manifest of generation 3"])
    assert "lost writes that it had confirmed: the manifest of generation 3; the superblock" in lost
    assert "the superblock of /home is no more" in damaged
    for sentence in (lost, damaged):
        assert "smartctl -a" in sentence
    assert unlike.faults([Unlike("root", "/", "work")], ()) == ()


def test_the_way_back_is_closed_for_the_right_reason() -> None:
    damage, work = Unlike("root", "/", "damage"), Unlike("home", "/home", "work")
    assert unlike.closed([], booted=False) == ""
    assert unlike.closed([], booted=True) == unlike.WORKED
    assert unlike.closed([damage, work], booted=False) == unlike.WORKED
    assert "is damaged" in unlike.closed([damage], booted=False)
    assert "booted" not in unlike.closed([damage], booted=False)
