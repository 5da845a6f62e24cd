# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person is offered, and when nothing is."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from builder.vault import chain, manifests, mend
from core.errors import ChainClosed
from core.model.state import State
from recovery import older
from recovery.consoles import ConsoleScreen
from tests.support.data import DATA

SAMPLE = manifests.decode((DATA / "formats/manifest-v2.json").read_bytes(), "sample")
NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)


def test_each_has_its_number_date_and_age() -> None:
    known = [
        replace(SAMPLE, generation=gen, taken=taken)
        for gen, taken in (
            (9, "2026-11-28T11:59:40+00:00"),
            (8, "2026-11-28T12:58:00+02:00"),
            (7, "2026-11-26T12:00:00+00:00"),
            (6, "2027-01-01T00:00:00+00:00"),
        )
    ]
    assert older.offered(known, NOW) == [
        "Backup 9 of 2026-11-28 11:59 UTC, the newest",
        "Backup 8 of 2026-11-28 10:58 UTC, 1 hour old",
        "Backup 7 of 2026-11-26 12:00 UTC, 2 days old",
        "Backup 6 of 2027-01-01 00:00 UTC",
        "None of these",
    ]


def test_once_the_copy_was_started_there_is_no_older_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Found out before anything is mounted, checked or written."""
    monkeypatch.setattr(mend, "check", pytest.fail)
    state = State("clean", 2, "2026-11-28T11:59:40+00:00", "0" * 32, booted=True, slot="1234")
    with pytest.raises(ChainClosed, match="has been started"):
        older.go_back("/dev/x", 0, state, "/dev/x1", str, ConsoleScreen())


def test_one_generation_is_no_choice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said: list[str] = []
    screen = ConsoleScreen()
    monkeypatch.setattr(screen, "warn", said.append)
    monkeypatch.setattr(chain, "generations", lambda *_: (SAMPLE,))
    state = State("clean", 1, SAMPLE.taken, "0" * 32, slot="1234")
    assert older._chosen(tmp_path, state, str, screen) is None
    assert "only that of" in said[-1]
