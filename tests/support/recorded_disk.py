# SPDX-License-Identifier: GPL-3.0-or-later
"""A DPSR disk as a power cut left it, made from a picture of it and what was written since.

Each partition is a file of its own, as long as the partition. Of the slots only the sectors that
were ever written are there: nothing else may be touched, and that is checked at the end.
"""

import os
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from builder.vault.replay import Spans
from core.model.state import State
from core.run import run
from grub.state import read_state
from images.vm import MIB
from tests.support import disk_image
from tests.support.disk_image import Part
from tests.support.power_cut import Write

CONTROL: Final = "dpsr-control"
VAULT: Final = "dpsr-vault"
_SLOT: Final = "dpsr-slot-"
_MAGIC: Final = b"\x53\xef"
_STATE: Final = b"# GRUB Environment Block\nformat="

Range = tuple[int, int]
Content = dict[str, tuple[bytes, ...]]
"""What the ranges hold that were ever written, by partition."""


class Region:
    """One partition; `ranges` of it, in bytes, are kept in memory: what the disk holds for sure.

    With `base`, what `image` has outside of them is in the file, too.
    """

    def __init__(
        self, part: Part, image: Path, path: Path, ranges: Sequence[Range], *, base: bool
    ) -> None:
        self.part = part
        self.path = path
        self.identity = superblocks(image, part)
        """Ranges, in whole 4 KiB, of an ext4's superblocks; none where there is no ext4."""
        self.ranges = ranges
        self._starts = [start for start, _end in ranges]
        self._stale = set(range(len(ranges)))
        """Of the ranges: those that the file may not hold as they are kept."""
        self.version = 0
        """Changes with what is kept."""
        self._base = path.with_suffix(".base")
        with open(image, "rb") as stream, open(self._base, "wb") as copy:
            file = stream.fileno()
            self.kept = [bytearray(os.pread(file, b - a, part.start + a)) for a, b in ranges]
            copy.truncate(part.size)
            for start, end in extents(file, part.end, part.start) if base else ():
                for at in range(start, end, MIB):
                    data = os.pread(file, min(MIB, end - at), at)
                    if any(data):
                        os.pwrite(copy.fileno(), data, at - part.start)
        self.anew()

    def anew(self) -> None:
        """Make the file again: the kernel may remember the one before."""
        self.path.unlink(missing_ok=True)
        run("cp", "--sparse=always", str(self._base), str(self.path))
        self.lay_out(everything=True)

    def lay_out(self, *, everything: bool) -> None:
        """Write what is kept over the file; what only we have written to, or everything."""
        with open(self.path, "r+b", buffering=0) as stream:
            for number in range(len(self.ranges)) if everything else sorted(self._stale):
                os.pwrite(stream.fileno(), self.kept[number], self.ranges[number][0])
        self._stale.clear()

    def keep(self, offset: int, data: bytes) -> None:
        """From now on the disk holds this for sure."""
        number = self._range(offset, len(data))
        start, _end = self.ranges[number]
        self.kept[number][offset - start : offset - start + len(data)] = data
        self.version += 1

    def write(self, offset: int, data: bytes) -> None:
        """Write to the file alone."""
        self._range(offset, len(data))
        with open(self.path, "r+b", buffering=0) as stream:
            os.pwrite(stream.fileno(), data, offset)

    def stale_at(self, offset: int) -> None:
        """Somebody else may have written to the file there."""
        self._range(offset, 0)

    def _range(self, offset: int, size: int) -> int:
        number = bisect_right(self._starts, offset) - 1
        start, end = self.ranges[number]
        assert start <= offset <= offset + size <= end, f"{self.part.name} has no byte {offset}"
        self._stale.add(number)
        return number

    @property
    def kept_as_ext4(self) -> tuple[bytes, ...] | None:
        """What is kept, with zeros for the superblocks; None where the first one is no more."""
        number = bisect_right(self._starts, 1024) - 1
        if number < 0 or not self.identity:
            return None
        at = 1024 + 0x38 - self.ranges[number][0]
        if bytes(self.kept[number][at : at + 2]) != _MAGIC:
            return None
        return self.without_identity(tuple(bytes(each) for each in self.kept))

    def looks_like_ext4(self) -> bool:
        with open(self.path, "rb", buffering=0) as stream:
            return os.pread(stream.fileno(), 2, 1024 + 0x38) == _MAGIC

    def without_identity(self, content: tuple[bytes, ...]) -> tuple[bytes, ...]:
        """The same with zeros for the superblocks."""
        cut = Spans(self.identity).cut
        return tuple(
            b"".join(
                bytes(stop - begin) if inside else data[begin - start : stop - start]
                for begin, stop, inside in cut(start, end)
            )
            for (start, end), data in zip(self.ranges, content, strict=True)
        )

    @property
    def content(self) -> tuple[bytes, ...]:
        """What the file holds in the ranges."""
        with open(self.path, "rb", buffering=0) as stream:
            return tuple(os.pread(stream.fileno(), b - a, a) for a, b in self.ranges)

    def strange(self) -> list[Range]:
        """Where the file holds something outside of the ranges."""
        with open(self.path, "rb", buffering=0) as stream:
            return [
                (start, end)
                for begin, stop in extents(stream.fileno(), self.part.size)
                for start, end, inside in Spans(self.ranges).cut(begin, stop)
                if not inside and any(os.pread(stream.fileno(), end - start, start))
            ]


@dataclass(slots=True)
class RecordedDisk:
    """The files of all partitions that were written to."""

    folder: Path
    control: Region
    vault: Region
    slots: dict[int, Region]
    """By the partition's number."""
    state_at: int
    """Byte of the state block in the control partition's file."""

    @classmethod
    def make(cls, folder: Path, image: Path, writes: Iterable[Write]) -> "RecordedDisk":
        """The disk as `image` shows it; `writes` are all that will come."""
        table = disk_image.table(image)
        touched: dict[str, list[Range]] = {part.name: [] for part in table.parts}
        for write in writes:
            part, offset = place(table.parts, write)
            touched[part.name].append((offset, offset + len(write.data)))

        def region(part: Part, *, base: bool = False) -> Region:
            ranges = Spans(touched[part.name]).ranges
            return Region(part, image, folder / part.name, ranges, base=base)

        control = region(table.named(CONTROL), base=True)
        with open(control.path, "rb") as stream:
            text = stream.read(128 * MIB)
        assert text.count(_STATE) == 1, "the state block cannot be told"
        slots = {part.number: region(part) for part in table.parts if part.name.startswith(_SLOT)}
        known = {CONTROL, VAULT, *(each.part.name for each in slots.values())}
        assert not [name for name, ranges in touched.items() if ranges and name not in known]
        vault = region(table.named(VAULT), base=True)
        return cls(folder, control, vault, slots, text.find(_STATE))

    @property
    def regions(self) -> tuple[Region, ...]:
        return (self.control, self.vault, *self.slots.values())

    @property
    def parts(self) -> tuple[Part, ...]:
        return tuple(region.part for region in self.regions)

    def placed(self, write: Write) -> tuple[Region, int]:
        """Where a write to the disk goes."""
        part, offset = place(self.parts, write)
        return next(each for each in self.regions if each.part is part), offset

    def keep(self, writes: Iterable[Write]) -> None:
        """The disk was flushed after these."""
        for write in writes:
            region, offset = self.placed(write)
            region.keep(offset, write.data)

    def lay_out(self, loose: Iterable[Write] = ()) -> None:
        """The files are the disk now, and these writes were never flushed."""
        for slot in self.slots.values():
            slot.lay_out(everything=True)
        self.control.stale_at(self.state_at)
        self.control.lay_out(everything=False)
        self.vault.anew()
        for write in loose:
            region, offset = self.placed(write)
            region.write(offset, write.data)

    def slot_path(self, number: int) -> str:
        return str(self.slots[number].path)

    @property
    def content(self) -> Content:
        return {region.part.name: region.content for region in self.slots.values()}

    @property
    def state(self) -> State:
        return read_state(str(self.control.path), self.state_at)


def place(parts: Iterable[Part], write: Write) -> tuple[Part, int]:
    """The partition that a write lies in, and where in it."""
    end = write.offset + len(write.data)
    for part in parts:
        if part.start <= write.offset and end <= part.end:
            return part, write.offset - part.start
    raise AssertionError(f"a write to bytes {write.offset} to {end} of the disk, in no partition")


def superblocks(image: Path, part: Part) -> list[Range]:
    """Where an ext4 has its superblocks, by dumpe2fs, in whole 4 KiB."""
    if disk_image.probe(image, part).get("TYPE") != "ext4":
        return []
    said = run("dumpe2fs", f"{image}?offset={part.start}")
    size = int(re.findall(r"^Block size: +(\d+)$", said, re.MULTILINE)[0])
    places = [int(number) * size for number in re.findall(r"superblock at (\d+),", said)]
    return [(at - at % 4096, at - at % 4096 + 4096) for at in places]


def extents(file: int, end: int, at: int = 0) -> Iterator[Range]:
    """Where a sparse file has data, from byte `at` to `end`."""
    while at < end:
        try:
            start = os.lseek(file, at, os.SEEK_DATA)
        except OSError:  # ENXIO: from there on there is none
            return
        if start >= end:
            return
        at = min(os.lseek(file, start, os.SEEK_HOLE), end)
        yield start, at
