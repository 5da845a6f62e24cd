# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads /proc/self/mountinfo and /proc/swaps. Pure: text in, values out."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from core.machine.escapes import from_octal


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of mountinfo."""

    dev: tuple[int, int]
    root: str
    mountpoint: str
    fstype: str
    source: str
    options: tuple[str, ...]
    """Of the mount, then of the file system, each once."""


@dataclass(frozen=True, slots=True)
class SwapEntry:
    """One line of /proc/swaps; `size` in bytes."""

    path: str
    kind: Literal["partition", "file"]
    size: int


def parse_mountinfo(text: str) -> tuple[Entry, ...]:
    """Every mount, in the order of the kernel; lines that are cut off are left out."""
    return tuple(entry for line in text.splitlines() if (entry := _entry(line)) is not None)


def parse_swaps(text: str) -> tuple[SwapEntry, ...]:
    """The active swap areas. A swap file that was deleted since is left out: it has no name."""
    found = []
    for line in text.splitlines()[1:]:
        words = line.split()
        if len(words) < 3 or words[0].endswith(r"\040(deleted)"):
            continue
        kind: Literal["partition", "file"] = "partition" if words[1] == "partition" else "file"
        found.append(SwapEntry(from_octal(words[0]), kind, int(words[2]) * 1024))
    return tuple(found)


def on_devices(
    entries: Iterable[Entry], nodes: Mapping[tuple[int, int], str], real: Mapping[str, str]
) -> tuple[tuple[str, Entry], ...]:
    """The mounts that lie on block devices, each with the kernel's name of its device.

    `nodes` has the node of each device number; `real` has that of each path that mountinfo may
    name, for file systems whose device number says nothing (btrfs). Sub-folders that are bound
    elsewhere are left out where the file system itself is mounted too.
    """
    found = []
    for entry in entries:
        node = nodes.get(entry.dev) or real.get(entry.source, "")
        if node:
            found.append((node, entry))
    whole = {node for node, entry in found if entry.root == "/"}
    return tuple((node, entry) for node, entry in found if entry.root == "/" or node not in whole)


def _entry(line: str) -> Entry | None:
    left, dash, right = line.partition(" - ")
    head, tail = left.split(" "), right.split(" ")
    if not dash or len(head) < 6 or len(tail) < 3:
        return None
    major, _, minor = head[2].partition(":")
    options = dict.fromkeys((*head[5].split(","), *tail[2].split(",")))
    return Entry(
        dev=(int(major), int(minor)),
        root=from_octal(head[3]),
        mountpoint=from_octal(head[4]),
        fstype=tail[0],
        source=from_octal(tail[1]),
        options=tuple(options),
    )
