# SPDX-License-Identifier: GPL-3.0-or-later
"""New UUID and label for a file system on an unmounted device, with its own tools, read back."""

from typing import Final

from core.errors import CommandFailed, FixupFailed
from core.model.copy import Identity
from core.run import run

_LONG: Final = 3600.0
"""Seconds: a check of a large file system, where it is needed at all."""


def set_ext4(device: str, new: Identity) -> None:
    """Give the ext4 on `device` the UUID and label of `new`. Raises FixupFailed.

    With metadata_csum the checksums' seed is the old UUID: kept as a number of its own
    (metadata_csum_seed), it lets the UUID change without touching more than the superblocks.
    """
    if "metadata_csum" in features(device) and "metadata_csum_seed" not in features(device):
        _tune(device, "-O", "metadata_csum_seed")
    _tune(device, "-U", new.uuid, "-L", new.label)
    found = superblock(device)
    uuid, label = found.get("Filesystem UUID"), found.get("Filesystem volume name")
    if uuid != new.uuid or label != (new.label or "<none>"):
        raise FixupFailed(
            f"{device} did not take the UUID {new.uuid} and the label {new.label!r}: "
            f"it has {uuid} and {label!r}."
        )


def features(device: str) -> frozenset[str]:
    """The features of the ext4 on `device`, as dumpe2fs names them."""
    return frozenset(superblock(device).get("Filesystem features", "").split())


def superblock(device: str) -> dict[str, str]:
    """The superblock of the ext4 on `device`, by dumpe2fs's names."""
    lines = (line.partition(":") for line in run("dumpe2fs", "-h", device).splitlines())
    return {name.strip(): value.strip() for name, colon, value in lines if colon}


def _tune(device: str, *change: str) -> None:
    try:
        run("tune2fs", *change, device, timeout=_LONG)
    except CommandFailed:
        # Some changes want a file system that was checked since its last mount.
        run("e2fsck", "-f", "-y", device, ok=(0, 1), timeout=_LONG)
        run("tune2fs", *change, device, timeout=_LONG)
