# SPDX-License-Identifier: GPL-3.0-or-later
"""Old names are found in every spelling; what only looks like one is left alone."""

import pytest

from builder.fixup.names import Names
from tests.support.renaming import DEBIAN12, NEW_BOOT, NEW_ROOT, NEW_SWAP, pair

GUID = f"f{NEW_ROOT[1:]}"


@pytest.mark.parametrize(
    ("spec", "new"),
    [
        ("UUID=ac4cd121-9281-45d9-98fa-6b628670e306", f"UUID={NEW_ROOT}"),
        ("UUID=AC4CD121-9281-45D9-98FA-6B628670E306", f"UUID={NEW_ROOT}"),
        ('UUID="ee329f32-d2e8-4efe-ac84-0b7ae563332d"', f"UUID={NEW_BOOT}"),
        ("LABEL=old root", f"UUID={NEW_ROOT}"),
        ("PARTUUID=0a4e203a-02", f"PARTUUID={GUID}"),
        ("/dev/sda5", f"/dev/disk/by-uuid/{NEW_SWAP}"),
        ("/dev/disk/by-label/old\\x20root", f"/dev/disk/by-uuid/{NEW_ROOT}"),
        ("/dev/disk/by-partuuid/0a4e203a-02", f"/dev/disk/by-partuuid/{GUID}"),
        ("/dev/sda", None),
        ("/dev/sda12", None),
        ("LABEL=Old Root", None),
        ("UUID=77777777-7777-4777-8777-777777777777", None),
        ("LABEL=", None),
        ("tmpfs", None),
    ],
)
def test_a_spec_is_renamed(spec: str, new: str | None) -> None:
    assert DEBIAN12.rename(spec) == new


@pytest.mark.parametrize(
    ("text", "fixed"),
    [
        ("root=/dev/sda2 ro", f"root=/dev/disk/by-uuid/{NEW_ROOT} ro"),
        ("root=/dev/sda21 /dev/sda2p1 /x/dev/sda2", "root=/dev/sda21 /dev/sda2p1 /x/dev/sda2"),
        ("PARTUUID=0A4E203A-02,", f"PARTUUID={GUID},"),
        ("x0a4e203a-02 0a4e203a-021", "x0a4e203a-02 0a4e203a-021"),
        ('"LABEL=old root"', f'"UUID={NEW_ROOT}"'),
        ("LABEL=old\\040root\t/", f"UUID={NEW_ROOT}\t/"),
        ("LABEL=old rooter", "LABEL=old rooter"),
        (
            "gnulinux-6.1-advanced-ac4cd121-9281-45d9-98fa-6b628670e306'",
            f"gnulinux-6.1-advanced-{NEW_ROOT}'",
        ),
        (
            "dev-disk-by\\x2duuid-e4565381\\x2ddfc1\\x2d41e4\\x2d8622\\x2d77b6ba8f967b.swap",
            "dev-disk-by\\x2duuid-33333333\\x2dcccc\\x2d4ccc\\x2d8ccc\\x2d333333333333.swap",
        ),
        ("# / was on /dev/sda2 once", f"# / was on /dev/disk/by-uuid/{NEW_ROOT} once"),
        ("old root", "old root"),
    ],
)  # fmt: skip
def test_names_in_a_text_are_replaced(text: str, fixed: str) -> None:
    assert DEBIAN12.substitute(text) == fixed
    assert DEBIAN12.remaining(fixed) == []
    assert bool(DEBIAN12.remaining(text)) == (text != fixed)


def test_fat_ids_stand_alone() -> None:
    names = Names((pair("/boot/efi", "vfat", "B9A0-2928", "D0D0-1234"),))
    assert names.substitute("UUID=b9a0-2928 b9a0-2928-1 xB9A0-2928") == (
        "UUID=D0D0-1234 b9a0-2928-1 xB9A0-2928"
    )


def test_without_pairs_nothing_changes() -> None:
    assert Names(()).substitute("anything") == "anything"
    assert Names(()).remaining("anything") == []


def test_what_is_new_is_known() -> None:
    assert DEBIAN12.is_new(f"UUID={NEW_ROOT}")
    assert not DEBIAN12.is_new("UUID=ac4cd121-9281-45d9-98fa-6b628670e306")
