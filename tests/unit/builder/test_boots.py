# SPDX-License-Identifier: GPL-3.0-or-later
"""After a restart the detector is trusted where both witnesses say that there was no crash."""

from dataclasses import replace
from pathlib import Path

import pytest

from builder import boots
from builder.boots import Boot, ended, expected, read, replayed, started

FIRST = Boot("first", clean=True, ended=True, mounts=(("home", 2), ("root", 7)))
SECOND = Boot("second", clean=True, ended=True, mounts=(("home", 3), ("root", 8)))
THIRD = Boot("third", clean=True, ended=False, mounts=(("home", 4), ("root", 9)))
THEN = {"root": 7, "home": 2}


def test_in_the_same_boot_nothing_needs_to_be_known() -> None:
    assert expected("first", THEN, "first", ()) == THEN


def test_each_start_mounts_once() -> None:
    assert expected("first", THEN, "second", (FIRST, SECOND)) == {"root": 8, "home": 3}
    assert expected("first", THEN, "third", (FIRST, SECOND, THIRD)) == {"root": 9, "home": 4}


@pytest.mark.parametrize(
    "known",
    [
        pytest.param((), id="nothing on record"),
        pytest.param((SECOND, THIRD), id="the boot of the backup is not on record"),
        pytest.param((FIRST, SECOND), id="the boot that runs is not on record"),
        pytest.param((replace(FIRST, ended=False), SECOND, THIRD), id="crashed after the backup"),
        pytest.param((FIRST, replace(SECOND, ended=False), THIRD), id="crashed in between"),
        pytest.param((FIRST, replace(SECOND, clean=False), THIRD), id="a journal in between"),
        pytest.param((FIRST, SECOND, replace(THIRD, clean=False)), id="a journal this time"),
    ],
)
def test_a_crash_is_never_overlooked(known: tuple[Boot, ...]) -> None:
    assert expected("first", THEN, "third", known) == {}


def test_a_mount_that_nobody_watched_shows() -> None:
    """A boot without the service, a rescue medium, or a volume that was mounted by hand."""
    assert expected("first", THEN, "third", (FIRST, THIRD)) == {}
    late = replace(THIRD, mounts=(("home", 5), ("root", 9)))
    assert expected("first", THEN, "third", (FIRST, SECOND, late)) == {"root": 9}
    away = replace(SECOND, mounts=(("root", 8),))
    assert expected("first", THEN, "third", (FIRST, away, THIRD)) == {"root": 9}


def test_the_count_begins_again_after_65535() -> None:
    last = Boot("last", clean=True, ended=True, mounts=(("root", 65535),))
    now = Boot("now", clean=True, ended=False, mounts=(("root", 0),))
    assert expected("last", {"root": 65535}, "now", (last, now)) == {"root": 0}


def test_a_restarted_service_changes_nothing() -> None:
    known = started((FIRST, SECOND), "third", {"root": 9, "home": 4}, clean=True)
    assert known == (FIRST, SECOND, THIRD)
    over = ended(known, "third")
    assert over == (FIRST, SECOND, replace(THIRD, ended=True))
    assert started(over, "third", {"root": 10}, clean=False) == known


@pytest.mark.parametrize(
    ("kernel", "checks", "found"),
    [
        ("", "", False),
        ("6,503,2,-;EXT4-fs (sda2): mounted filesystem 2b r/w with ordered data mode.\n",
         "root: clean, 31410/163840 files, 271712/655104 blocks\n", False),
        ("6,503,2,-;EXT4-fs (sda2): recovery complete\n", "", True),
        ("6,9,2,-;EXT4-fs (dm-0): INFO: recovery required on readonly filesystem\n", "", True),
        ("", "fsck.ext4 (1) -- /dev/sda2\n/dev/sda2: recovering journal\n", True),
        ("4,9,2,-;EXT4-fs (sdb1): warning: mounting unchecked fs, running e2fsck\n", "", True),
        ("6,9,2,-;XFS (sdb1): Ending recovery (logdev: internal)\n", "", False),
    ],
)  # fmt: skip
def test_a_journal_that_was_replayed_is_heard_of(kernel: str, checks: str, found: bool) -> None:
    assert replayed(kernel, checks) is found


def test_what_cannot_be_read_says_nothing(tmp_path: Path) -> None:
    assert read(tmp_path) == ()
    for content in ("", "{", "7", '[{"boot": 3}]', '[{"boot": "x", "odd": 1}]'):
        (tmp_path / boots.FILE).write_text(content)
        assert read(tmp_path) == ()


def test_what_was_written_is_read(tmp_path: Path) -> None:
    boots._write((FIRST, SECOND), tmp_path)
    assert read(tmp_path) == (FIRST, SECOND)
    boots.note_end(tmp_path)  # of another boot than these
    assert read(tmp_path) == (FIRST, SECOND)
