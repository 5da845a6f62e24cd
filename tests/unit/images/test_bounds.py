# SPDX-License-Identifier: GPL-3.0-or-later
"""How much a guest may take of the machine."""

import pytest

from core.errors import NoMemory
from images.bounds import need_memory, words

MEMINFO = "MemTotal: 8000000 kB\nMemFree: 90000 kB\nMemAvailable:    {} kB\nBuffers: 1 kB\n"


def test_with_systemd_a_scope_bounds_it_and_it_is_nice() -> None:
    said = words(1024, scope=True)
    assert said[:2] == ("systemd-run", "--scope")
    assert "--property=MemoryMax=1536M" in said
    assert "--property=CPUWeight=20" in said
    assert said[-4:] == ("--", "nice", "-n", "10")
    assert words(1024, scope=False) == ("nice", "-n", "10")


def test_a_guest_that_has_no_room_is_not_started() -> None:
    need_memory(1024, MEMINFO.format(1280 * 1024))
    with pytest.raises(NoMemory, match="takes 1280, and 1279 MiB are free") as caught:
        need_memory(1024, MEMINFO.format(1280 * 1024 - 1))
    assert "--memory" in caught.value.hint
    need_memory(1024, "a kernel that does not say")
