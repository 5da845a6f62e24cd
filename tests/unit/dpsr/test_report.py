# SPDX-License-Identifier: GPL-3.0-or-later
"""`dpsr status` says first whether all is well, and never that it is when it is not."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from builder.status import Status
from core.model.figures import RunFigures
from core.record import Counters, Drill, Record, Written
from core.settings import BackupSet, VolumeSettings
from dpsr.report import status_as_json, status_as_text
from tests.support.machines import GIB, MIB, blank

TAKEN = datetime(2026, 11, 22, 17, 30, tzinfo=UTC)
NOW = TAKEN + timedelta(hours=2)
DISK = blank(serial="S3Z1NB0K")
RECORDED = BackupSet(
    "system", "S3Z1NB0K", "0x5002", "guid", "Samsung SSD", 40 * GIB, 4096, "c", "1A2B-3C4D", "v",
    (
        VolumeSettings("/", "ext4", "u1", "root", 3, "u2", "g2"),
        VolumeSettings("/home", "ext4", "u3", "home", 4, "u4", "g4"),
    ),
)  # fmt: skip
RECORD = Record(
    "system", 1, "ab" * 16, TAKEN.isoformat(), RunFigures(100.0, 3 * GIB, 3 * GIB, 4, 0.12, "used"),
    Counters("boot", ()),
)  # fmt: skip
GOOD = Status(
    name="system", state="clean", generation=1, taken=TAKEN, running_from="primary", hidden=False,
    recorded=RECORDED, disk=DISK, sources={"/": "/dev/sda2"}, booted=False, record=RECORD,
    written=Written(200 * MIB, complete=True), trouble="", at_work="", changes=(),
    asked=True,
)  # fmt: skip
NONE = replace(
    GOOD,
    state="none",
    generation=0,
    taken=None,
    recorded=None,
    disk=None,
    record=None,
    written=None,
)


def test_a_good_copy_reads_well() -> None:
    text = status_as_text(GOOD, NOW)
    assert text.splitlines()[0] == "There is a good copy of this system."
    for fact in (
        "(2 h 0 min ago), generation 1", "serial S3Z1NB0K, 40.0 GiB (/dev/sdb)", "/, /home",
        "at most 200.0 MiB were written", "1 min 40 s, 3.0 GiB copied, writers waited 0.12 s",
    ):  # fmt: skip
        assert fact in text


@pytest.mark.parametrize(
    ("change", "said", "next_step"),
    [
        ({"state": "building"}, "NOT COMPLETE", "dpsr prepare S3Z1NB0K"),
        ({"state": "updating"}, "interrupted", "Next: dpsr update"),
        ({"state": "rolling-back", "to": 2}, "interrupted", "Next: dpsr rollback 2 goes on"),
        (
            {"state": "rolling-back", "to": 2, "at_work": "dpsr rollback, process 7"},
            "is being taken back to generation 2 (dpsr rollback, process 7)",
            "",
        ),
        ({"state": "updating", "at_work": "dpsr update, process 7"}, "is being made now", ""),
        ({"changes": ("/srv is new.",)}, "NOT OF ALL", "Next: dpsr prepare --again"),
        ({"disk": None}, "NOT THERE", "plugged in"),
        ({"trouble": "The state block cannot be read."}, "NOT ANSWER", "cannot be read"),
        ({"state": "none"}, "NO copy", "dpsr prepare S3Z1NB0K"),
        ({"trouble": "x", "disk": None}, "NOT THERE", "plugged in"),
    ],
)
def test_what_is_not_well_is_never_called_good(
    change: dict[str, object], said: str, next_step: str
) -> None:
    found = replace(GOOD, **change)  # type: ignore[arg-type]
    text = status_as_text(found, NOW)
    assert said in text.splitlines()[0]
    assert "good copy of this system" not in text
    assert next_step in text
    assert not found.healthy
    assert status_as_json(found, NOW)["healthy"] is False


def test_without_a_dpsr_disk_the_way_to_one_is_said() -> None:
    text = status_as_text(NONE, NOW)
    assert "NO copy" in text.splitlines()[0]
    assert "dpsr prepare DISK" in text


def test_whoever_runs_from_the_copy_is_told_so_first() -> None:
    found = replace(GOOD, running_from="dpsr", written=None)
    text = status_as_text(found, NOW)
    assert text.splitlines()[0] == "YOU ARE RUNNING FROM THE DPSR DISK, not from the primary."
    assert "serial S3Z1NB0K" in text
    assert "generation 1" in text
    bare = replace(NONE, running_from="dpsr", disk=DISK, state="clean")
    assert "S3Z1NB0K" in status_as_text(bare, NOW)


def test_what_only_root_can_know_is_said_to_be_on_record() -> None:
    text = status_as_text(replace(GOOD, asked=False), NOW)
    assert "as root, `dpsr status` asks the disk itself" in text


def test_after_a_restart_the_amount_is_no_upper_bound_any_more() -> None:
    text = status_as_text(replace(GOOD, written=Written(MIB, complete=False)), NOW)
    assert "at most" not in text
    assert "1.0 MiB were written since the last start, and more before it" in text


def test_a_boot_test_that_failed_and_a_copy_that_was_started_are_seen() -> None:
    drill = Drill(passed=False, seconds=77.0, at="2026-11-22T18:00:00+00:00")
    text = status_as_text(replace(GOOD, record=replace(RECORD, drill=drill), booted=True), NOW)
    assert "DID NOT PASS" in text
    assert "the copy was started since it was made" in text


def test_programs_get_every_promised_key() -> None:
    document = json.loads(json.dumps(status_as_json(GOOD, NOW)))
    promised = {
        "name", "state", "generation", "taken", "age_seconds", "running_from", "hidden", "dpsr",
        "volumes", "last_run", "last_drill", "next_run", "healthy",
    }  # fmt: skip
    assert promised <= set(document)
    assert document["taken"] == "2026-11-22T17:30:00+00:00"
    assert document["age_seconds"] == 7200.0
    assert document["healthy"] is True
    assert set(document["dpsr"]) == {"serial", "wwn", "guid", "size_bytes"}
    assert document["volumes"][0] == {
        "mountpoint": "/", "source": "/dev/sda2", "slot": "root", "fstype": "ext4", "uuid": "u1",
        "slot_uuid": "u2", "taken": "2026-11-22T17:30:00+00:00",
    }  # fmt: skip
    assert set(document["last_run"]) == {
        "seconds", "bytes_examined", "bytes_written", "passes", "stall_seconds", "detector",
    }  # fmt: skip
    assert set(json.loads(json.dumps(status_as_json(NONE, NOW)))) == set(document)


def test_lines_fit_a_terminal() -> None:
    for found in (GOOD, NONE, replace(GOOD, running_from="dpsr")):
        assert max(map(len, status_as_text(found, NOW).splitlines())) <= 90


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"how": "detached"}, "hidden       yes"),
        ({"how": "ignored", "why": "its controller has nvme0n2, too"}, "since its controller has"),
        ({"how": "ignored"}, "not detached: `dpsr hide`"),
        ({"revealed": NOW}, "NO: it was revealed until"),
        ({}, "NO: `dpsr hide` hides it"),
    ],
)
def test_whether_it_is_hidden_is_said(change: dict[str, Any], said: str) -> None:
    found = replace(GOOD, **change)
    assert said in status_as_text(found, NOW)
    data = status_as_json(replace(found, hidden=bool(found.how)), NOW)
    assert data["hidden"] == ("how" in change)
    assert data["hidden_how"] == change.get("how")
    assert data["hidden_why"] == change.get("why")
    assert data["revealed_until"] == (NOW.isoformat() if "revealed" in change else None)


def test_where_it_is_not_to_be_hidden_nothing_is_said() -> None:
    assert "hidden" not in status_as_text(replace(GOOD, hides=False), NOW)


def test_a_detached_disk_has_no_path() -> None:
    assert "/dev/sdb" not in status_as_text(replace(GOOD, how="detached"), NOW)
