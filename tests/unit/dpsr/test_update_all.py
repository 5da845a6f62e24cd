# SPDX-License-Identifier: GPL-3.0-or-later
"""`dpsr update --all`: a disk that is away does not keep the others from their backup."""

from typing import Any

import pytest

from builder import flow
from core import settings
from core.errors import CopyUnreachable, StepFailed
from core.settings import BackupSet, Settings
from dpsr import app

NAMES = ("monday", "friday", "third")
SETS = tuple(BackupSet(name, name, "", "", "m", 1, 0, "c", "d", "v") for name in NAMES)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The sets of which a backup was made; that of monday cannot be."""
    done: list[str] = []

    def update(name: str, *_: Any) -> None:
        if name == "monday":
            raise CopyUnreachable("The DPSR disk (m, monday) is not there.")
        done.append(name)

    monkeypatch.setattr(flow, "update", update)
    monkeypatch.setattr(settings, "load", lambda: Settings(sets=SETS))
    monkeypatch.setattr("os.geteuid", lambda: 0)
    return done


def run(*words: str) -> None:
    app.application()(["update", *words], prog_name="dpsr", standalone_mode=False)


def test_all_others_get_theirs(made: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(StepFailed, match="1 of 3 backups were not made: monday"):
        run("--all")
    assert made == ["friday", "third"]
    assert "(m, monday) is not there" in capsys.readouterr().err


def test_one_alone_ends_as_it_ends(made: list[str]) -> None:
    with pytest.raises(CopyUnreachable):
        run("--name", "monday")
    run("--name", "friday")
    assert made == ["friday"]


def test_a_single_set_is_all_there_is(made: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "load", lambda: Settings(sets=SETS[1:2]))
    run("--all")
    assert made == ["friday"]
