# SPDX-License-Identifier: GPL-3.0-or-later
"""What `dpsr hide` and `dpsr reveal` say, and how long `--for` is."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from core.machine.attached import Way
from core.settings import BackupSet
from dpsr.sights import as_data, hidden, revealed, seconds, seen_as_data
from recovery.sight import Seen, Sight
from tests.support.machines import GIB, MIB, disk, part

KNOWN = BackupSet("system", "S3Z1NB0K", "", "guid", "Samsung SSD", GIB, 4096, "c", "u", "v")
WAY = Way("pci", "/sys/x/remove", "/sys/y/rescan", "1", "0000:03:00.0")
DISK = disk("/dev/sdb", GIB, part("/dev/sdb2", 2, MIB, GIB, name="dpsr-control"))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("90s", 90), ("10m", 600), ("2h", 7200), ("1d", 86400), (" 45 ", 45), ("30d", 2592000)],
)
def test_how_long(text: str, wanted: int) -> None:
    assert seconds(text) == wanted


@pytest.mark.parametrize("text", ["", "0", "0m", "-5m", "5 m", "1.5h", "10x", "m", "31d", "9" * 30])
def test_what_is_no_time(text: str) -> None:
    assert seconds(text) is None


@pytest.mark.parametrize(
    ("sight", "said", "how"),
    [
        (Sight(KNOWN, WAY, away=True), "is hidden: this system does not see it", "detached"),
        (Sight(KNOWN, None, away=True), "is hidden already", "detached"),
        (Sight(KNOWN, None, away=False), "is not there", None),
        (Sight(KNOWN, Way("none", why="it is odd"), away=False), "since it is odd", "ignored"),
    ],
)
def test_what_became_of_a_disk(sight: Sight, said: str, how: str | None) -> None:
    assert said in hidden([sight])
    assert "S3Z1NB0K" in hidden([sight])
    (data,) = as_data([sight])
    assert (data["hidden"], data["hidden_how"]) == (how is not None, how)


def test_where_it_is_and_how_long() -> None:
    seen = Seen(DISK, datetime(2026, 11, 22, 17, 30, tzinfo=UTC))
    text = revealed(seen)
    assert "/dev/sdb2  dpsr-control" in text
    assert "read-only" in text
    assert seen_as_data(seen)["revealed_until"] == "2026-11-22T17:30:00+00:00"
    assert seen_as_data(replace(seen))["partitions"] == [
        {"path": "/dev/sdb2", "name": "dpsr-control"}
    ]
