# SPDX-License-Identifier: GPL-3.0-or-later
"""All writes and flushes of a guest to one of its disks, recorded by QEMU's `blklogwrites`.

The file has the format of the kernel's dm-log-writes
<https://docs.kernel.org/admin-guide/device-mapper/log-writes.html>.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from images.guest import Guest
from images.vm import Drive, devices
from tests.support.power_cut import SECTOR, Write
from tests.support.scenario import DPSR, halted

_MAGIC: Final = 0x6A736677736872
_FLUSH: Final = 1
_FUA: Final = 2
_DISCARD: Final = 4
_MARK: Final = 8
_NODE: Final = "recorded"
_PORT: Final = 6
_ENTRY: Final = struct.Struct("<4Q")


@dataclass(frozen=True, slots=True)
class Window:
    """What a guest wrote between two flushes of its disk; offsets in bytes of the disk."""

    writes: tuple[Write, ...]


def plug_recorded(guest: Guest, image: Path, log: Path) -> None:
    """Plug the raw `image` in as the DPSR disk, on SCSI; what is written goes to `log`, too.

    `image` and `log` are as good as their host: nothing of them is flushed.
    """
    log.touch()

    def file(path: Path) -> dict[str, object]:
        return {"driver": "file", "filename": str(path), "cache": {"no-flush": True}}

    guest.monitor.command(
        "blockdev-add", driver="blklogwrites", node_name=_NODE, file=file(image), log=file(log),
        log_sector_size=SECTOR,
    )  # fmt: skip
    spec = next(spec for spec in guest.disks if spec.serial == DPSR)
    for device in devices(Drive("disk-recorded", image, "raw", spec, _PORT)):
        if "drive" in device:
            device["drive"] = _NODE
        guest.monitor.command("device_add", **device)
    guest.wait_disk(DPSR)


def length(guest: Guest, log: Path) -> int:
    """How long the log is when nothing is under way any more."""
    with halted(guest):
        return log.stat().st_size


def windows(log: Path, start: int, end: int) -> tuple[Window, ...]:
    """What bytes `start` to `end` of the log tell; the last window was not flushed."""
    found: list[Window] = []
    writes: list[Write] = []
    for flags, write in _entries(log, start, end):
        assert not flags & (_FUA | _DISCARD | _MARK), f"a write with the flags {flags}"
        if flags & _FLUSH:
            if writes:
                found.append(Window(tuple(writes)))
            writes = []
        else:
            writes.append(write)
    return (*found, Window(tuple(writes)))


def _entries(log: Path, start: int, end: int) -> Iterator[tuple[int, Write]]:
    with open(log, "rb") as stream:
        magic, version, _count, size = struct.unpack("<3QI", stream.read(28))
        assert (magic, version, size) == (_MAGIC, 1, SECTOR), (magic, version, size)
        at = max(start, SECTOR)
        while at < end:
            stream.seek(at)
            sector, count, flags, _ = _ENTRY.unpack(stream.read(_ENTRY.size))
            assert flags < 16, f"byte {at} of the log makes no sense"
            stream.seek(at + SECTOR)
            size = 0 if flags & _DISCARD else count * SECTOR
            data = stream.read(size)
            assert len(data) == size, f"the log ends within an entry at byte {at}"
            at += SECTOR + size
            yield flags, Write(0, sector * SECTOR, data)
        assert at == end, f"the log goes on to byte {at}, not {end}"
