# SPDX-License-Identifier: GPL-3.0-or-later
"""New identities for the DPSR disk, never one that this machine knows already."""

import secrets
import uuid
from collections.abc import Callable, Iterable, Iterator

from core.model.copy import Identity
from core.model.machine import Disk, Machine

CONTROL_LABEL = "DPSR-CONTRL"
"""FAT takes eleven characters."""
VAULT_LABEL = "dpsr-vault"


class Fresh:
    """A source of identities.

    `random` takes a number of bytes and returns as many random ones; tests give a known one.
    """

    def __init__(self, random: Callable[[int], bytes] = secrets.token_bytes) -> None:
        self._random = random
        self._known: set[str] = set()

    def avoid(self, known: Iterable[str]) -> None:
        """Never return one of `known` from now on."""
        self._known.update(word.lower() for word in known if word)

    def uuid(self) -> str:
        """A random UUID, also good as a GUID."""
        return self._new(lambda: str(uuid.UUID(bytes=self._random(16), version=4)))

    def fat_id(self) -> str:
        """A FAT volume id as blkid writes it: `1A2B-3C4D`."""
        return self._new(lambda: "{:02X}{:02X}-{:02X}{:02X}".format(*self._random(4)))

    def label(self, name: str, fstype: str) -> str:
        """A label for the slot `name`: `dpsr-root`; as FAT allows it, `DPSR-EFI`."""
        room = 11 if fstype == "vfat" else 16
        word = f"dpsr-{name}"
        word = word.upper() if fstype == "vfat" else word
        for number in range(1, 1000):
            tail = "" if number == 1 else str(number)
            label = word[: room - len(tail)].rstrip("-") + tail
            if label.lower() not in self._known:
                self._known.add(label.lower())
                return label
        raise AssertionError("a thousand labels are taken")

    def identity(self, name: str, fstype: str, label: str | None = None) -> Identity:
        """The whole identity of the partition called `name` with a file system of type `fstype`.

        `fstype` is empty for one without a file system. `label` is made from `name` (without
        `dpsr-slot-`) unless given.
        """
        found = ""
        if fstype:
            found = self.fat_id() if fstype == "vfat" else self.uuid()
            if label is None:
                label = self.label(name.removeprefix("dpsr-slot-"), fstype)
        return Identity(found, label or "", self.uuid(), name)

    def _new(self, make: Callable[[], str]) -> str:
        while True:
            word = make()
            if word.lower() not in self._known and word.strip("0-"):
                self._known.add(word.lower())
                return word


def identities(machine: Machine, but_labels_of: Disk) -> Iterator[str]:
    """Every UUID, GUID and label of the machine.

    The labels of `but_labels_of` may be used again: they are going to be overwritten.
    """
    for disk in machine.disks:
        yield from (disk.guid, disk.uuid)
        if disk != but_labels_of:
            yield disk.label
        for part in disk.partitions:
            yield from (part.uuid, part.partuuid)
            if disk != but_labels_of:
                yield part.label
    for holder in machine.holders:
        yield from (holder.uuid, holder.label)
