# SPDX-License-Identifier: GPL-3.0-or-later
"""mountinfo and swaps are read as the kernel writes them."""

from core.machine.mounts import SwapEntry, on_devices, parse_mountinfo, parse_swaps

MOUNTINFO = r"""
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 8:2 / / rw,relatime shared:1 - ext4 /dev/sda2 rw,errors=remount-ro
31 27 8:1 / /boot/efi rw,relatime shared:2 master:3 - vfat /dev/sda1 rw,umask=0077
32 27 8:3 / /srv/my\040data rw,noatime - ext4 /dev/sda3 rw
33 27 8:3 /sub /mnt/bound rw,noatime - ext4 /dev/sda3 rw
34 27 0:45 /@home /home rw - btrfs /dev/mapper/vg-home rw,subvol=/@home
35 27 8:17 /only /mnt/only rw - ext4 /dev/sdb1 rw
36 27 0:50 / /net rw - nfs4 server:/export rw
broken line
40 27 8:9
"""

NODES = {
    (8, 1): "/dev/sda1", (8, 2): "/dev/sda2", (8, 3): "/dev/sda3", (8, 17): "/dev/sdb1",
    (253, 0): "/dev/dm-0",
}  # fmt: skip


def test_lines_are_read_with_any_number_of_tags() -> None:
    entries = parse_mountinfo(MOUNTINFO)
    assert [entry.mountpoint for entry in entries] == [
        "/proc", "/", "/boot/efi", "/srv/my data", "/mnt/bound", "/home", "/mnt/only", "/net",
    ]  # fmt: skip
    root = entries[1]
    assert (root.dev, root.root, root.fstype, root.source) == ((8, 2), "/", "ext4", "/dev/sda2")
    assert root.options == ("rw", "relatime", "errors=remount-ro")


def test_only_block_devices_are_kept_and_bound_sub_folders_only_alone() -> None:
    found = on_devices(parse_mountinfo(MOUNTINFO), NODES, {"/dev/mapper/vg-home": "/dev/dm-0"})
    assert [(node, entry.mountpoint) for node, entry in found] == [
        ("/dev/sda2", "/"),
        ("/dev/sda1", "/boot/efi"),
        ("/dev/sda3", "/srv/my data"),
        ("/dev/dm-0", "/home"),
        ("/dev/sdb1", "/mnt/only"),
    ]


def test_swaps_are_read_in_bytes() -> None:
    text = (
        "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
        "/dev/sda4                               partition\t1000444\t\t0\t\t-2\n"
        r"/srv/my\040swap                          file" + "\t\t524284\t\t0\t\t-3\n"
        r"/gone\040(deleted)                       file" + "\t\t524284\t\t0\t\t-4\n"
    )
    assert parse_swaps(text) == (
        SwapEntry("/dev/sda4", "partition", 1000444 * 1024),
        SwapEntry("/srv/my swap", "file", 524284 * 1024),
    )


def test_no_swap_is_no_swap() -> None:
    assert parse_swaps("Filename\tType\n") == ()
    assert parse_swaps("") == ()
