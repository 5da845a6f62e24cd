# SPDX-License-Identifier: GPL-3.0-or-later
"""What the rescue system is told on the kernel's command line."""

import pytest

from recovery.unattended import asked_for

GUID = "6d7c1c4e-0000-4000-8000-00000000d150"


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (f"boot=dpsr root=dpsr dpsr.disk={GUID} quiet", GUID),
        (f"dpsr.disk={GUID.upper()}\n", GUID),
        ("boot=dpsr dpsr.disk=sda", ""),
        (f"xdpsr.disk={GUID}", ""),
        ("", ""),
    ],
)
def test_which_disk(line: str, found: str) -> None:
    assert asked_for(line) == found
