# SPDX-License-Identifier: GPL-3.0-or-later
"""A failing DPSR disk is told as that: with its name, what it holds, and what to do next."""

import errno
import os
from pathlib import Path

import pytest

from builder import trouble
from core.errors import (
    ChainClosed,
    CommandFailed,
    DiskGone,
    ReadFailed,
    StepFailed,
    ToolError,
    UndoLogDamaged,
    WriteFailed,
)
from core.errors.system import reason_of

DISK = "/dev/sdz"


def said(reason: ToolError | OSError, disk: str = DISK) -> ToolError:
    reason.disk_holds = "It holds the backup before."  # type: ignore[union-attr]
    with pytest.raises(ToolError) as caught, trouble.named(disk, "S123"):
        raise reason
    assert caught.value.disk_holds == "It holds the backup before."
    return caught.value


@pytest.mark.parametrize(
    ("number", "kind", "code"),
    [
        (errno.EIO, ReadFailed, 52),
        (errno.ENODEV, ReadFailed, 52),
        (errno.EUCLEAN, ReadFailed, 52),
        (errno.ENOSPC, WriteFailed, 53),
        (errno.EROFS, WriteFailed, 53),
    ],
)
def test_what_the_system_says_becomes_an_error(
    number: int, kind: type[StepFailed], code: int
) -> None:
    reason = OSError(number, os.strerror(number), "/run/dpsr/vault/file")
    error = said(reason)
    assert os.strerror(number) in str(error)
    assert (type(error), error.exit_code) == (kind, code)
    assert str(error) == f"/run/dpsr/vault/file cannot be used: {reason_of(reason)}."
    assert "smartctl -a /dev/sdz" in error.hint


def test_words_that_mean_nothing_to_people_are_explained() -> None:
    assert reason_of(OSError(errno.EIO, "Input/output error")) == (
        "the disk reports an error (Input/output error)"
    )
    assert reason_of(OSError(errno.EACCES, "Permission denied")) == "Permission denied"


def test_without_a_file_the_disk_is_named() -> None:
    assert str(said(OSError(errno.EIO, "Input/output error"))).startswith("/dev/sdz cannot be used")


def test_other_faults_are_no_failing_disk() -> None:
    with pytest.raises(PermissionError), trouble.named(DISK):
        raise PermissionError(errno.EACCES, "Permission denied")


def test_a_program_that_failed_on_the_disk_tells_what_to_look_at() -> None:
    error = said(
        CommandFailed("mount -t ext4 /dev/sdz5 /run/dpsr/vault", 32, "can't read superblock")
    )
    assert error.exit_code == 51
    assert "smartctl -a /dev/sdz" in error.hint


def test_a_failing_primary_is_not_taken_for_the_dpsr_disk() -> None:
    error = said(ReadFailed("/dev/sda1 cannot be read at byte 0: Input/output error."))
    assert error.hint == ReadFailed.hint


def disk_in(folder: Path, **facts: str) -> str:
    (folder / "sdz/device").mkdir(parents=True, exist_ok=True)
    known = {"size": "4096", "diskseq": "7", "device/state": "running"} | facts
    for name, value in known.items():
        (folder / "sdz" / name).write_text(f"{value}\n")
    return trouble.presence(DISK, folder)


def test_a_disk_that_went_away_is_seen(tmp_path: Path) -> None:
    there = disk_in(tmp_path)
    assert there
    assert disk_in(tmp_path, diskseq="8") not in {there, ""}
    assert disk_in(tmp_path, size="0") == ""
    assert disk_in(tmp_path, **{"device/state": "offline"}) == ""
    assert disk_in(tmp_path) == there
    assert trouble.presence("/dev/sdy", tmp_path) == ""


@pytest.mark.parametrize(
    "reason",
    [
        OSError(errno.EIO, "Input/output error"),
        WriteFailed("/dev/sdz3 does not keep what is written to it: Input/output error."),
        UndoLogDamaged("The undo log cannot be read."),
    ],
)
def test_that_is_what_is_told_then(
    reason: ToolError | OSError, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = iter(["there", ""])
    monkeypatch.setattr(trouble, "presence", lambda _: next(seen))
    error = said(reason)
    assert isinstance(error, DiskGone)
    assert str(error) == f"The DPSR disk /dev/sdz (S123) went away in the middle: {reason}"
    assert "`dpsr update`" in error.hint


def test_a_refusal_stays_one(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = iter(["there", ""])
    monkeypatch.setattr(trouble, "presence", lambda _: next(seen))
    assert type(said(ChainClosed("The way back is closed."))) is ChainClosed
