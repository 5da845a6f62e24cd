# SPDX-License-Identifier: GPL-3.0-or-later
"""`dpsr rollback`: what is listed, what is asked, and what nobody is asked."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from builder.history import Generation
from builder.vault.unlike import WORKED
from core.errors import NotConfirmed
from core.model.figures import RunFigures
from core.model.manifest import Manifest
from core.model.state import State
from core.screen import Screen
from dpsr import app
from dpsr.waysback import question, ways_as_data, ways_as_text
from recovery import rollback as room
from recovery.rollback import Step, Ways, sort_out
from tests.support.machines import blank
from tests.unit.dpsr.test_main import Terminal, ends

MIB = 1 << 20


def manifest(number: int) -> Manifest:
    return Manifest(
        "system", f"{number:032x}", number, "", "", f"2026-11-{number:02}T18:00:00+00:00", "server",
        "6.12.0-1-amd64", "guid", (), (), (), RunFigures(9.0, MIB, MIB, 1, 0.1, "ext4"),
    )  # fmt: skip


CLEAN = State("clean", gen=4, taken=manifest(4).taken, txid=manifest(4).txid, slot="1A2B-3C4D")
KNOWN = tuple(
    Generation(manifest(number), number == 4, number * MIB if number > 1 else 0)
    for number in (4, 3, 2, 1)
)
STEP = Step(blank(), manifest(2), (manifest(4), manifest(3)))


def found(state: State = CLEAN, *, closed: str = "") -> Ways:
    return sort_out(state, KNOWN, closed=closed)


def open_ones(ways: Ways) -> list[int]:
    return [way.generation.manifest.generation for way in ways.ways if way.is_open]


def test_all_older_ones_can_be_gone_back_to() -> None:
    ways = found()
    assert open_ones(ways) == [3, 2, 1]
    assert [way.log_size // MIB for way in ways.ways] == [0, 4, 7, 9]
    assert "generation 4, the system as it was at 2026-11-04" in ways.holds


def test_a_copy_that_was_touched_has_no_way_back() -> None:
    ways = found(closed=WORKED)
    assert open_ones(ways) == []
    assert "`dpsr update` makes the next generation" in ways_as_text(ways)


def test_on_the_way_back_only_what_lies_below_can_be_reached() -> None:
    ways = found(replace(CLEAN, state="rolling-back", to=2))
    assert open_ones(ways) == [1]
    assert [way.is_here for way in ways.ways] == [False, False, True, False]
    assert "`dpsr rollback 2` and `dpsr update` go on with it" in ways_as_text(ways)
    assert ways_as_data(ways)["to"] == 2


def test_an_interrupted_update_is_said_to_go_first() -> None:
    ways = found(replace(CLEAN, state="updating", txid="ff" * 16))
    assert open_ones(ways) == [3, 2, 1]
    assert "do that first" in ways_as_text(ways)
    rescue = replace(CLEAN, state="updating").with_rescue("0123456789ab")
    assert "so does the rescue system" in found(rescue).holds


def test_the_list_fits_a_terminal_and_says_what_to_type() -> None:
    lines = ways_as_text(found()).splitlines()
    assert [line.split()[0] for line in lines[1:5]] == ["4*", "3", "2", "1"]
    assert lines[-1] == "Go back with, for example: dpsr rollback 3"
    assert max(map(len, lines)) <= 100
    alone = sort_out(CLEAN, KNOWN[:1])
    assert "no older generation" in ways_as_text(alone)
    assert "no generation" in ways_as_text(sort_out(CLEAN, ()))


def test_programs_get_the_same() -> None:
    document = json.loads(json.dumps(ways_as_data(found())))
    assert (document["state"], document["generation"], document["closed"]) == ("clean", 4, None)
    newest, older, *_ = document["generations"]
    assert (newest["here"], newest["reachable"], newest["undo_bytes"]) == (True, False, 0)
    assert (older["here"], older["reachable"], older["undo_bytes"]) == (False, True, 4 * MIB)
    assert ways_as_data(found(closed=WORKED))["closed"]


def test_the_question_says_what_is_lost_and_what_is_not() -> None:
    text = question(STEP)
    assert "SER-sdb" in text
    assert "Afterwards it holds the system as it was at 2026-11-02" in text
    assert "generation 4 of 2026-11-04" in text
    assert "generation 3 of 2026-11-03" in text
    assert "The primary, the system that runs now, is not touched." in text
    many = replace(STEP, lost=tuple(manifest(number) for number in range(20, 2, -1)))
    assert "12 more, down to generation 3." in question(many)


# --- the command ----------------------------------------------------------------------------------

Run = Callable[..., None]


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The generations that were gone back to."""
    done: list[int] = []

    def roll_back(name: str, to: int, _: Screen, confirm: room.Confirm) -> Step:
        assert name == "system"
        confirm(STEP)
        done.append(to)
        return replace(STEP, taken=True)

    monkeypatch.setattr(room, "roll_back", roll_back)
    monkeypatch.setattr(room, "ways", lambda _name, _screen: found())
    monkeypatch.setattr("os.geteuid", lambda: 0)
    return done


def run(*words: str) -> Any:
    return app.application()(["rollback", *words], prog_name="dpsr", standalone_mode=False)


@pytest.mark.parametrize(("line", "goes"), [("y\n", True), ("yes\n", True), ("YES \n", True),
                                            ("\n", False), ("", False), ("n\n", False),
                                            ("2\n", False)])  # fmt: skip
def test_only_a_yes_is_one(
    called: list[int], monkeypatch: pytest.MonkeyPatch, line: str, goes: bool
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(line))
    if goes:
        run("2")
    else:
        with pytest.raises(NotConfirmed, match="Nothing was changed"):
            run("2")
    assert called == ([2] if goes else [])


def test_nobody_there_is_seen_before_anything_else(
    called: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal("y\n", somebody=False))
    monkeypatch.setattr(room, "roll_back", lambda *_: pytest.fail("it went on"))
    with pytest.raises(NotConfirmed) as error:
        run("2")
    assert "--yes" in error.value.hint
    assert called == []


def test_yes_asks_nobody_and_programs_get_one_document(
    called: list[int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal("", somebody=False))
    run("2", "--yes", "--json")
    out, err = capsys.readouterr()
    assert (called, err) == ([2], "")
    document = json.loads(out)
    assert (document["generation"], document["changed"]) == (2, True)
    assert [each["generation"] for each in document["lost"]] == [4, 3]


def test_without_a_number_it_lists(called: list[int], capsys: pytest.CaptureFixture[str]) -> None:
    run()
    assert "dpsr rollback 3" in capsys.readouterr().out
    run("--json")
    assert len(json.loads(capsys.readouterr().out)["generations"]) == 4
    assert called == []


@pytest.mark.parametrize("words", [("--yes",), ("-1",), ("two",), ("2", "--progress", "loud")])
@pytest.mark.usefixtures("called")
def test_wrong_usage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    code, out, err = ends(monkeypatch, capsys, "rollback", *words)
    assert (code, out) == (2, "")
    assert "Usage: dpsr rollback" in err
