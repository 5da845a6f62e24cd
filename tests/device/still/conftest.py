# SPDX-License-Identifier: GPL-3.0-or-later
"""No test of this folder may leave anything behind: no tracing, no watchdog."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

INSTANCES = Path("/sys/kernel/tracing/instances")


def left_behind() -> list[str]:
    found = [str(path) for path in INSTANCES.glob(f"dpsr-{os.getpid()}*")]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
            parent = (process / "stat").read_text().rpartition(")")[2].split()[1]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if any(word.endswith(b"watchdog.py") for word in words) and parent == str(os.getpid()):
            found.append(f"process {process.name}")
    return found


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    yield
    assert left_behind() == []
