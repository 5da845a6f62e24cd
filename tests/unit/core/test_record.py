# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of the last run survives, and how much was written since is never told too low."""

from pathlib import Path

from core.machine.counters import sectors_written
from core.model.figures import RunFigures
from core.record import Counters, Drill, Record, read_record, write_record, written_since

RECORD = Record(
    "system", 1, "ab" * 16, "2026-11-22T17:30:00+00:00",
    RunFigures(100.0, 1 << 30, 1 << 29, 4, 0.12, "used"),
    Counters("boot-1", (("/", 1000), ("/home", 5000))),
    Drill(passed=True, seconds=77.0, at="2026-11-22T18:00:00+00:00"),
)  # fmt: skip


def test_a_record_survives(tmp_path: Path) -> None:
    write_record(RECORD, tmp_path / "dpsr")
    assert read_record("system", tmp_path / "dpsr") == RECORD


def test_a_record_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    assert read_record("system", tmp_path) is None
    for text in ("", "{}", '{"name": "system", "colour": 1}', "\0"):
        (tmp_path / "system.json").write_text(text)
        assert read_record("system", tmp_path) is None


def test_what_was_written_since_is_the_difference() -> None:
    now = Counters("boot-1", (("/", 1500), ("/home", 5000)))
    found = written_since(Counters("boot-1", (("/", 1000), ("/home", 5000))), now)
    assert (found.size, found.complete) == (500, True)


def test_after_a_restart_only_what_came_after_it_is_known() -> None:
    then = Counters("boot-1", (("/", 1000), ("/home", 5000)))
    found = written_since(then, Counters("boot-2", (("/", 300), ("/home", 40))))
    assert (found.size, found.complete) == (340, False)


def test_volumes_that_are_not_copied_do_not_count() -> None:
    then = Counters("boot-1", (("/", 1000),))
    now = Counters("boot-1", (("/", 1000), ("/data", 1 << 30)))
    assert written_since(then, now).size == 0


def test_the_seventh_number_of_stat_is_what_was_written() -> None:
    line = (
        "   12345     678   901234     5678    23456     7890   345678     9012        0     3456\n"
    )
    assert sectors_written(line) == 345678
    assert sectors_written("") == 0
