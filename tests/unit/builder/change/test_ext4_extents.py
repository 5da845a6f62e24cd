# SPDX-License-Identifier: GPL-3.0-or-later
"""Extent trees and inodes, from bytes that are written out here by the kernel's documentation."""

import struct
from collections.abc import Sequence

import numpy as np
import pytest

from builder.change.detector import UseCompare
from builder.change.ext4 import extents, inodes
from builder.change.ext4.extents import Words

MANY = 1 << 40
ALL = np.array([True])


def node(depth: int, entries: Sequence[bytes], size: int = 60, magic: int = 0xF30A) -> bytes:
    most = (size - 12) // 12
    head = struct.pack("<4HI", magic, len(entries), most, depth, 0)
    return (head + b"".join(entries)).ljust(size, b"\xee")


def leaf_entry(block: int, length: int) -> bytes:
    return struct.pack("<IHHI", 7, length, block >> 32, block & 0xFFFFFFFF)


def index_entry(block: int) -> bytes:
    return struct.pack("<IIHH", 7, block & 0xFFFFFFFF, block >> 32, 0xAAAA)


def words(*nodes: bytes) -> Words:
    return np.frombuffer(b"".join(nodes), "<u4").reshape(len(nodes), -1)


def test_leaves_have_places_beyond_32_bits_and_unwritten_lengths() -> None:
    far = 5 << 32 | 9
    found = extents.leaves(
        words(
            node(0, [leaf_entry(100, 3), leaf_entry(far, 32768)]),
            node(0, []),
            node(0, [leaf_entry(500, 32768 + 8)]),
        ),
        MANY,
    )
    assert found.node.tolist() == [0, 0, 2]
    assert found.start.tolist() == [100, far, 500]
    assert found.length.tolist() == [3, 32768, 8]
    assert found.unwritten.tolist() == [False, False, True]


def test_extents_outside_the_file_system_are_left_out() -> None:
    found = extents.leaves(words(node(0, [leaf_entry(90, 10), leaf_entry(91, 10)])), 100)
    assert found.start.tolist() == [90]


def test_children_of_blocks() -> None:
    far = 3 << 32 | 77
    entries = [index_entry(n) for n in (far, 0, 12)]
    rows, blocks = extents.children(words(node(1, entries, 1024), node(2, entries, 1024)), MANY)
    assert rows.tolist() == [0, 0, 1, 1]
    assert blocks.tolist() == [far, 12, far, 12]


def test_a_full_block_is_read_to_its_end() -> None:
    entries = [leaf_entry(10 * n + 10, 1) for n in range(340)]
    found = extents.leaves(words(node(0, entries, 4096)), MANY)
    assert len(found.start) == 340
    assert found.start[-1] == 3400


def test_what_is_no_node_has_no_depth() -> None:
    good = node(3, [index_entry(5)])
    too_many = bytearray(good)
    too_many[2] = 5  # entries
    too_deep = bytearray(good)
    too_deep[6] = 6
    found = extents.depths(words(good, node(0, [], magic=0), bytes(too_many), bytes(too_deep)))
    assert found.tolist() == [3, -1, -1, -1]


# --- inodes -----------------------------------------------------------------------------------


def inode(**fields: int) -> bytes:
    """An inode of 256 bytes; fields by the kernel's names, the i_ left out."""
    places = {
        "mode": (0x0, "H"), "size": (0x4, "I"), "atime": (0x8, "I"), "ctime": (0xC, "I"),
        "blocks": (0x1C, "I"), "flags": (0x20, "I"), "block0": (0x28, "I"),
        "file_acl": (0x68, "I"), "file_acl_high": (0x76, "H"), "checksum_lo": (0x7C, "H"),
        "extra_isize": (0x80, "H"), "checksum_hi": (0x82, "H"), "ctime_extra": (0x84, "I"),
        "mtime_extra": (0x88, "I"), "atime_extra": (0x8C, "I"), "xattr": (0xA0, "I"),
    }  # fmt: skip
    row = bytearray(256)
    for name, value in ({"mode": 0o100644, "extra_isize": 32, "flags": 0x80000} | fields).items():
        at, kind = places[name]
        struct.pack_into(f"<{kind}", row, at, value)
    return bytes(row)


READ = {"atime": 5, "atime_extra": 6, "checksum_lo": 7, "checksum_hi": 8}


def test_reading_is_no_change() -> None:
    ours, theirs = words(inode(**READ)), words(inode())
    assert not inodes.meaningful(ours, theirs)[0]
    assert inodes.differing(ours, theirs).tolist() == [0]
    assert inodes.differing(ours, ours).tolist() == []


@pytest.mark.parametrize(
    "field", ["mode", "size", "ctime", "blocks", "flags", "block0", "ctime_extra", "mtime_extra"]
)
def test_everything_else_is_a_change(field: str) -> None:
    assert inodes.meaningful(words(inode(**READ, **{field: 1})), words(inode()))[0]


def test_without_room_for_it_the_time_of_reading_is_something_else() -> None:
    old = {"extra_isize": 12}
    assert inodes.meaningful(words(inode(atime_extra=6, **old)), words(inode(**old)))[0]


def test_both_sides_must_have_room_for_the_time_of_reading() -> None:
    ours, theirs = words(inode(atime_extra=6)), words(inode(extra_isize=12))
    assert inodes.meaningful(ours, theirs)[0]


def test_inodes_are_not_changed_by_the_comparison() -> None:
    ours = words(inode(**READ))
    before = ours.copy()
    inodes.meaningful(ours, words(inode()))
    assert np.array_equal(ours, before)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, False),
        ({"extra_isize": 0}, False),
        ({"extra_isize": 4}, True),
        ({"extra_isize": 12}, False),
        ({"flags": 0x80000 | 0x10}, False),
        ({"flags": 0x80000 | 0x10 | 0x80}, True),
    ],
)
def test_who_may_change_without_a_trace(fields: dict[str, int], expected: bool) -> None:
    assert inodes.blind(words(inode(**fields)))[0] == expected


def test_xattr_blocks_are_told_once_and_have_48_bits() -> None:
    rows = words(
        inode(file_acl=9), inode(file_acl=9), inode(), inode(file_acl=1, file_acl_high=2),
        inode(file_acl=5, file_acl_high=0xFFFF),
    )  # fmt: skip
    assert inodes.xattr_blocks(rows, MANY).tolist() == [9, 2 << 32 | 1]


@pytest.mark.parametrize(
    ("number", "fields", "in_use", "refused"),
    [
        (12, {"flags": 0, "block0": 4}, True, True),
        (12, {"flags": 0, "block0": 4}, False, False),
        (12, {"flags": 0}, True, False),
        (12, {"block0": 4}, True, False),
        (12, {"mode": 0o120777, "flags": 0, "block0": 4, "size": 59}, True, False),
        (12, {"mode": 0o120777, "flags": 0, "block0": 4, "size": 60}, True, True),
        (12, {"mode": 0o020600, "flags": 0, "block0": 4}, True, False),
        (12, {"mode": 0o040755, "flags": 0, "block0": 4}, True, True),
        (7, {"flags": 0, "block0": 4}, True, False),
        (1, {"mode": 0, "flags": 0, "blocks": 8}, True, True),
        (1, {"mode": 0, "flags": 0}, True, False),
    ],
)
def test_who_is_refused_for_a_block_map(
    number: int, fields: dict[str, int], in_use: bool, refused: bool
) -> None:
    rows = words(inode(**fields))
    try:
        inodes.refuse_block_maps(rows, np.array([number]), np.array([in_use]))
    except UseCompare:
        assert refused
    else:
        assert not refused
