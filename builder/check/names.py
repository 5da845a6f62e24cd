# SPDX-License-Identifier: GPL-3.0-or-later
"""What lies in given blocks of an ext4 file system: files by name, else what they are for.

debugfs finds the inode of a block, then the names of an inode. Each takes a walk over all inodes,
or all folders, so few of many blocks are asked for.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from builder.change.compare import GRAIN
from core.errors import ToolError
from core.run import run

MOST: Final = 2000
"""Blocks that are asked for."""
_AT_ONCE: Final = 500
_HOURS: Final = 36_000.0
_RESERVED: Final = {
    1: "the list of bad blocks", 3: "the user quota", 4: "the group quota",
    7: "the room for group descriptors", 8: "the journal", 9: "excluded blocks",
    10: "replicas",
}  # fmt: skip
METADATA: Final = "file system metadata"
FREE: Final = "free space"


def owners(device: str, block: int, places: Iterable[int]) -> dict[int, tuple[str, ...]]:
    """What the 4 KiB at `places` of the file system on `device`, with blocks of `block`, belong to.

    Names begin with `/`, as within that file system; several where a file has several. What has no
    name is said in words. Where debugfs cannot tell, nothing is.
    """
    numbers = {
        place: range(place // block, max(place + GRAIN, place + block) // block)
        for place in list(places)[:MOST]
    }
    every = sorted({number for each in numbers.values() for number in each})
    try:
        inodes = _inodes(device, every)
        used = _in_use(device, [number for number in every if number not in inodes])
        named = _names(device, sorted({inode for inode in inodes.values() if inode > 10}))
    except ToolError:
        return {}
    return {
        place: tuple(
            dict.fromkeys(
                name
                for number in each
                for name in _said(inodes.get(number), named, in_use=number in used)
            )
        )
        for place, each in numbers.items()
    }


def _said(inode: int | None, named: Mapping[int, list[str]], *, in_use: bool) -> tuple[str, ...]:
    if inode is None:
        return (METADATA if in_use else FREE,)
    if inode == 2:
        return ("/",)
    if inode <= 10:
        return (_RESERVED.get(inode, METADATA),)
    return tuple(named.get(inode, [f"a file without a name (inode {inode})"]))


def parse_icheck(text: str) -> dict[int, int]:
    """Block and inode, from what `debugfs icheck` prints. Pure."""
    return {
        int(block): int(inode) for block, inode in re.findall(r"^(\d+)\t(\d+)$", text, re.MULTILINE)
    }


def parse_ncheck(text: str) -> dict[int, list[str]]:
    """Inode and its names, from what `debugfs ncheck` prints. Pure."""
    found: dict[int, list[str]] = {}
    for inode, name in re.findall(r"^(\d+)\t(.*)$", text, re.MULTILINE):
        found.setdefault(int(inode), []).append(f"/{name.lstrip('/')}")
    return found


def parse_testb(text: str) -> set[int]:
    """The blocks that are in use, from what `debugfs testb` prints. Pure."""
    return {int(block) for block in re.findall(r"^Block (\d+) marked in use$", text, re.MULTILINE)}


def _inodes(device: str, blocks: list[int]) -> dict[int, int]:
    return parse_icheck(_ask(device, "icheck", blocks))


def _names(device: str, inodes: list[int]) -> dict[int, list[str]]:
    return parse_ncheck(_ask(device, "ncheck", inodes))


def _in_use(device: str, blocks: list[int]) -> set[int]:
    return parse_testb(_ask(device, "testb", blocks, at_once=1))


def _ask(device: str, what: str, numbers: list[int], at_once: int = _AT_ONCE) -> str:
    if not numbers:
        return ""
    lots = (numbers[at : at + at_once] for at in range(0, len(numbers), at_once))
    lines = "".join(f"{what} {' '.join(map(str, lot))}\n" for lot in lots)
    return run("debugfs", "-f", "/dev/stdin", device, given=lines.encode(), timeout=_HOURS)
