# SPDX-License-Identifier: GPL-3.0-or-later
"""The state block: what is written, what is read, and what is refused."""

import dataclasses
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import StateUnreadable, UnknownFormat
from core.model.state import State
from grub import envblock
from grub.state import SECTOR, pack, parse, read_state, write_state

FORMATS = Path(__file__).parents[2] / "data" / "formats"

CLEAN = State(
    state="clean",
    gen=12,
    taken="2025-11-22T03:00:05+00:00",
    txid="0123456789abcdef0123456789abcdef",
    slot="6f2c2b1e-5f0c-4f6a-9c1e-0d5b7a3e9f10",
)


def changed(old: str, new: str) -> bytes:
    block = pack(CLEAN)
    assert old.encode() in block
    return block.replace(old.encode(), new.encode()).ljust(1024, b"#")[:1024]


@pytest.mark.parametrize(
    "state",
    [
        State(state="building"),
        State(state="building", txid="f" * 32),
        CLEAN,
        dataclasses.replace(CLEAN, booted=True),
        dataclasses.replace(CLEAN, state="updating"),
        dataclasses.replace(CLEAN, state="rolling-back", to=3),
        dataclasses.replace(
            CLEAN, slot="1234-ABCD", extra=(("new", "a=b"), ("odd", "back\\slash"))
        ),
    ],
)
def test_what_is_packed_is_parsed(state: State) -> None:
    block = pack(state)
    assert len(block) == 1024
    assert set(block[SECTOR:]) == {ord("#")}
    assert parse(block) == state


def test_what_switch_keeps_is_a_key_each_and_goes_again() -> None:
    marked = CLEAN.with_rescue("r").with_order("0000,0003").with_trial("1").with_primary("1")
    found = parse(pack(marked))
    assert (found.rescue, found.order, found.trial) == ("r", "0000,0003", "1")
    assert marked.with_rescue("").with_order("").with_trial("").with_primary("") == CLEAN


def test_the_sample_of_version_1_is_read() -> None:
    assert parse((FORMATS / "state-v1").read_bytes()) == dataclasses.replace(
        CLEAN, booted=True, extra=(("later", "kept"),)
    )


def test_what_would_pass_the_first_sector_is_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        pack(dataclasses.replace(CLEAN, extra=(("long", "x" * 400),)))


@pytest.mark.parametrize(
    "block",
    [
        b"",
        bytes(1024),
        pack(CLEAN)[:1023],
        pack(CLEAN) + b"#",
        changed("# GRUB", "# grub"),
        changed("state=clean", "state=cleam"),
        changed("state=clean\n", ""),
        changed("format=1\n", ""),
        changed("gen=12", "gen=-1"),
        changed("gen=12", "gen=0"),
        changed("gen=12", "gen=\u0661\u0662"),
        changed("booted=0", "booted=2"),
        changed("+00:00", ""),
        changed("2025-11-22T", "2025-13-22T"),
        changed("txid=0", "txid="),
        changed("slot=6", "slot=$"),
        changed("booted=0", "gen=12"),
        changed("booted=0\n", "booted=0\nto=3\n"),
        changed("booted=0\n", "booted=0\nnonsense\n"),
        changed("state=clean", "state=rolling-back"),
        pack(CLEAN)[:SECTOR] + b"x" + b"#" * 511,
        pack(State(state="building")).replace(b"=building", b"=updating"),
        pack(CLEAN).replace(b"gen=12", b"gen=\xff\xfe"),
    ],
)
def test_anything_else_is_refused(block: bytes) -> None:
    with pytest.raises(StateUnreadable):
        parse(block)


@given(st.integers(0, 511), st.binary(min_size=1, max_size=8))
def test_a_damaged_sector_is_refused_or_still_a_state(at: int, noise: bytes) -> None:
    block = bytearray(pack(CLEAN))
    block[at : at + len(noise)] = noise
    try:
        parse(bytes(block))
    except (StateUnreadable, UnknownFormat):
        return


def test_an_unknown_version_is_refused_by_its_own_error() -> None:
    with pytest.raises(UnknownFormat, match="format 2"):
        parse(changed("format=1", "format=2"))


names = st.text(string.ascii_lowercase + "_", min_size=1, max_size=8)
values = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)


@given(st.dictionaries(names, values, max_size=5))
def test_any_value_survives_an_environment_block(pairs: dict[str, str]) -> None:
    assert dict(envblock.decode(envblock.encode(pairs.items()))) == pairs


def test_names_that_grub_could_not_read_are_refused() -> None:
    for name in ("", "#a", "a=b", "a\nb"):
        with pytest.raises(ValueError, match="no name"):
            envblock.encode([(name, "")])


def test_one_sector_is_written_and_nothing_around_it(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    around = b"\xaa" * 4096
    disk.write_bytes(around + pack(State(state="building")) + around)
    write_state(str(disk), 4096, CLEAN)
    assert disk.read_bytes() == around + pack(CLEAN) + around
    assert read_state(str(disk), 4096) == CLEAN


def test_only_a_state_block_is_overwritten(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(8192))
    with pytest.raises(StateUnreadable, match="Nothing was written"):
        write_state(str(disk), 4096, CLEAN)
    with pytest.raises(StateUnreadable, match="no sector's start"):
        write_state(str(disk), 4000, CLEAN)
    assert disk.read_bytes() == bytes(8192)


def test_a_state_that_does_not_fit_leaves_the_old_one(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(pack(CLEAN))
    with pytest.raises(StateUnreadable, match="do not fit"):
        write_state(str(disk), 0, dataclasses.replace(CLEAN, extra=(("long", "x" * 400),)))
    assert read_state(str(disk), 0) == CLEAN


def test_a_disk_that_is_gone_or_too_short_is_a_sentence(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with pytest.raises(StateUnreadable, match="could not be read"):
        read_state(str(disk), 0)
    disk.write_bytes(pack(CLEAN)[:600])
    with pytest.raises(StateUnreadable, match="the disk ends there"):
        read_state(str(disk), 0)


@pytest.mark.parametrize(
    "values",
    [
        {"state": "idle"},
        {"gen": 0},
        {"gen": -1},
        {"taken": "2025-11-22"},
        {"taken": "2025-11-22T03:00:05"},
        {"txid": "F" * 32},
        {"slot": "no uuid"},
        {"to": 3},
        {"state": "rolling-back"},
        {"state": "rolling-back", "to": 13},
        {"state": "building"},
    ],
)
def test_a_state_that_means_nothing_cannot_be_made(values: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"(state|gen|taken|txid|slot|to) is"):
        dataclasses.replace(CLEAN, **values)  # type: ignore[arg-type]
