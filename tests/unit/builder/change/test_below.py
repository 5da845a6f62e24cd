# SPDX-License-Identifier: GPL-3.0-or-later
"""Which files may be used for swap, by what the system's files say."""

import pytest

from builder.change.below import named_for_swap

FSTAB = r"""
# /swap-old none swap sw 0 0
UUID=5f2d  /         ext4  errors=remount-ro 0 1
/swapfile  none      swap  sw                0 0
/my\040swap none     swap  sw,nofail
/dev/sda3  none      swap  sw
UUID=77aa  none      swap  sw
/images/x  /mnt      ext4  loop
/cut-off   none
"""
UNIT = """
[Unit]
Description=What=/nothing
[Swap]
What=/var/swap%%1
Priority = 3
 What = /swapfile
"""


@pytest.mark.parametrize(
    ("fstab", "units", "expected"),
    [
        ("", [], ()),
        (FSTAB, [], ("/swapfile", "/my swap", "/dev/sda3")),
        (FSTAB, [UNIT], ("/swapfile", "/my swap", "/dev/sda3", "/var/swap%1")),
        ("", ["[Swap]\nWhat=\n", "What=/dev/disk/by-uuid/1"], ("/dev/disk/by-uuid/1",)),
    ],
)
def test_names(fstab: str, units: list[str], expected: tuple[str, ...]) -> None:
    assert named_for_swap(fstab, units) == expected
