# SPDX-License-Identifier: GPL-3.0-or-later
"""Gives a clone that another tool made its own identity: table, file systems, files.

Each step looks first whether it was done, so that a run that was interrupted is repeated whole.
"""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from builder.fixup import ext4, marker, uuids
from builder.fixup.assemble import assembled
from builder.fixup.fix import make_swap
from builder.fixup.names import Names
from builder.fixup.tree import ESP_PROGRAMS, Edited, fix_tree
from builder.plan.clone import Clone, ClonePart
from core.errors import CommandFailed, CopyDiffers, FixupFailed
from core.model.copy import Identity
from core.run import run
from core.screen import Screen

_PATIENCE: Final = 20.0
"""Seconds until the kernel shows the partitions again."""
_LONG: Final = 3600.0

Also = Callable[[Path], object]


def fix_clone(clone: Clone, screen: Screen, also: Also | None = None) -> Edited:
    """Re-identify the clone and edit its files; `also` is called with its mounted root at the end.

    To be called in a private mount namespace, the disk locked. Raises FixupFailed, CopyDiffers.
    """
    screen.step(f"Giving {clone.disk} and its partitions identifiers of their own")
    _fix_table(clone)
    for part in clone.parts:
        if part.fstype:
            _fix_file_system(part, screen)
    screen.step("Changing the files that name the old ones")
    names = Names(tuple(part.pair for part in clone.parts), clone.left_out)
    places = [
        (part.pair.mountpoint, part.fstype, part.path)
        for part in clone.parts
        if part.pair.mountpoint
    ]
    with assembled(places) as (root, scratch):
        said = marker.dump(clone.guid, names.pairs)
        edited = fix_tree(root, names, clone.drivers, scratch, said, ESP_PROGRAMS)
        for file in clone.swap_files:
            make_swap(root, file)  # the clone has the primary's, perhaps with a hibernated system
        if also is not None:
            also(root)
    for note in edited.notes:
        screen.warn(note)
    return edited


def _fix_table(clone: Clone) -> None:
    wanted = {part.number: part.pair.new for part in clone.parts}
    quietly = ("--quiet", "--no-reread", "--no-tell-kernel")
    if clone.table == "gpt":
        # On a larger disk the backup table is still where the primary's disk ended.
        run("sfdisk", *quietly, "--relocate", "gpt-bak-std", clone.disk)
    if _table(clone) != _told(clone, wanted):
        run("sfdisk", *quietly, "--disk-id", clone.disk, clone.guid)
        for number, new in wanted.items():
            if clone.table == "gpt":
                run("sfdisk", *quietly, "--part-uuid", clone.disk, str(number), new.partuuid)
                run("sfdisk", *quietly, "--part-label", clone.disk, str(number), new.partlabel)
        run("partx", "--update", clone.disk)
    if _table(clone) != _told(clone, wanted):
        raise CopyDiffers(f"The partition table of {clone.disk} does not read back as written.")
    deadline = time.monotonic() + _PATIENCE
    while not all(os.path.exists(part.path) for part in clone.parts):
        if time.monotonic() > deadline:
            raise FixupFailed(f"The kernel does not show the partitions of {clone.disk}.")
        time.sleep(0.05)


def _told(clone: Clone, wanted: dict[int, Identity]) -> tuple[str, dict[str, tuple[str, str]]]:
    if clone.table != "gpt":
        return clone.guid.lower(), {}
    return clone.guid.lower(), {
        str(number): (new.partuuid.lower(), new.partlabel) for number, new in wanted.items()
    }


def _table(clone: Clone) -> tuple[str, dict[str, tuple[str, str]]]:
    """The disk's identity and that of the partitions that count, by number."""
    table = json.loads(run("sfdisk", "--json", clone.disk))["partitiontable"]
    found = {}
    if clone.table == "gpt":
        known = {part.path: str(part.number) for part in clone.parts}
        for row in table["partitions"]:
            if row["node"] in known:
                found[known[row["node"]]] = (row["uuid"].lower(), row.get("name", ""))
    return table["id"].lower(), found


def _fix_file_system(part: ClonePart, screen: Screen) -> None:
    new = part.pair.new
    if _probe(part.path) == (new.uuid, new.label):
        return
    if part.fstype in ext4.TYPES:
        _check_file_system(part.path, screen)
        uuids.set_ext4(part.path, new)
    elif part.fstype == "vfat":
        run("fatlabel", "-i", part.path, new.uuid.replace("-", ""))
        run("fatlabel", part.path, new.label)
    else:  # swap: made anew, so that no image of a hibernated primary is in it
        run("mkswap", "--uuid", new.uuid, "--label", new.label, part.path)
    if _probe(part.path) != (new.uuid, new.label):
        raise FixupFailed(f"{part.path} did not take the UUID {new.uuid} and label {new.label}.")


def _check_file_system(device: str, screen: Screen) -> None:
    """Replay the journal; mend what a tool that copied a running system has torn."""
    try:
        run("e2fsck", "-p", device, ok=(0, 1), timeout=_LONG)
    except CommandFailed:
        run("e2fsck", "-f", "-y", device, ok=(0, 1, 2), timeout=_LONG)
        screen.warn(
            f"{device} was inconsistent, as if it had been copied while it was being written, and "
            "was repaired: files that changed at that time may be damaged."
        )


def _probe(device: str) -> tuple[str, str]:
    """UUID and label, read from the device."""
    said = run("blkid", "-p", "-o", "export", device, ok=(0, 2))
    words = dict(line.partition("=")[::2] for line in said.splitlines())
    return words.get("UUID", ""), words.get("LABEL", "")
