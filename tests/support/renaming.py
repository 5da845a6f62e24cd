# SPDX-License-Identifier: GPL-3.0-or-later
"""Renamings for the tests of fix-ups: those of the machines whose files are in tests/data."""

from typing import Final

from builder.fixup.names import Names
from core.model.copy import Identity, Pair

NEW_ROOT: Final = "11111111-aaaa-4aaa-8aaa-111111111111"
NEW_BOOT: Final = "22222222-bbbb-4bbb-8bbb-222222222222"
NEW_SWAP: Final = "33333333-cccc-4ccc-8ccc-333333333333"
NEW_EFI: Final = "D0D0-1234"


def pair(mountpoint: str, fstype: str, old: str, new: str, *paths: str, **more: str) -> Pair:
    """A renaming from UUID to UUID; `more`: label, partuuid, partlabel of the old."""
    before = Identity(
        old, more.get("label", ""), more.get("partuuid", ""), more.get("partlabel", ""), paths
    )
    after = Identity(new, f"dpsr-{mountpoint.strip('/') or 'root'}", _guid(new), "dpsr-slot-x")
    return Pair(mountpoint, fstype, before, after)


def _guid(new: str) -> str:
    return f"f{new[1:]}" if len(new) == 36 else "fdfdfdfd-dddd-4ddd-8ddd-fdfdfdfdfdfd"


DEBIAN13: Final = Names(
    (
        pair(
            "/", "ext4", "3d6435d5-f45d-49dd-940b-99178448a6e5", NEW_ROOT, "/dev/vda2",
            "/dev/disk/by-id/virtio-PRIMARY1-part2",
            partuuid="e960e179-526d-6c05-ca88-1fde3805f716",
        ),
        pair("/boot/efi", "vfat", "B9A0-2928", NEW_EFI, "/dev/vda1"),
        pair("", "swap", "9e3a6302-7cb5-476a-a8b4-254ad1a52c36", NEW_SWAP, "/dev/vda3"),
    )
)  # fmt: skip

DEBIAN12: Final = Names(
    (
        pair(
            "/", "ext4", "ac4cd121-9281-45d9-98fa-6b628670e306", NEW_ROOT, "/dev/sda2",
            label="old root", partuuid="0a4e203a-02",
        ),
        pair("/boot", "ext4", "ee329f32-d2e8-4efe-ac84-0b7ae563332d", NEW_BOOT, "/dev/sda1"),
        pair(
            "", "swap", "e4565381-dfc1-41e4-8622-77b6ba8f967b", NEW_SWAP, "/dev/sda5",
            partuuid="0a4e203a-05",
        ),
    ),
    (Identity("77777777-7777-4777-8777-777777777777", "home", "", "", ("/dev/sdb1",)),),
)  # fmt: skip
