# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads disk images for the tests: tables, file systems; shares no code with the rooms.

Everything is read from image files by other people's tools (qemu-img, blkid, debugfs, mtools) or
by the few lines here, so that a fault of the program cannot hide itself. Nobody needs to be root.
"""

import re
import struct
import uuid
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from core.run import run, run_bytes

SECTOR: Final = 512
_GPT: Final = b"EFI PART"
_EXTENDED: Final = {0x05, 0x0F, 0x85}


@dataclass(frozen=True, slots=True)
class Part:
    """One partition: offsets and sizes in bytes."""

    number: int
    start: int
    size: int
    kind: str
    """GPT type GUID (lower case), or `0x83`."""
    name: str = ""
    guid: str = ""
    attributes: int = 0

    @property
    def end(self) -> int:
        return self.start + self.size


@dataclass(frozen=True, slots=True)
class Table:
    """A partition table."""

    kind: str
    """`gpt` or `mbr`."""
    guid: str
    parts: tuple[Part, ...]

    def named(self, name: str) -> Part:
        found = [part for part in self.parts if part.name == name]
        assert len(found) == 1, f"{len(found)} partitions are called {name}: {self.parts}"
        return found[0]


def raw(image: Path, target: Path) -> Path:
    """`image` (qcow2 with all its backing files, or raw) as one raw, sparse file.

    A running QEMU may have it open, as long as it writes to another file.
    """
    run("qemu-img", "convert", "--force-share", "-O", "raw", str(image), str(target), timeout=600)
    return target


def read(image: Path, offset: int, size: int) -> bytes:
    with open(image, "rb") as stream:
        stream.seek(offset)
        return stream.read(size)


def table(image: Path) -> Table:
    """The partition table. Fails when a GPT is not right in both its places."""
    first = read(image, 0, SECTOR)
    assert first[510:] == b"\x55\xaa", f"{image} has no boot sector"
    if read(image, SECTOR, 8) == _GPT:
        return _gpt(image, first)
    return Table("mbr", f"{struct.unpack_from('<I', first, 440)[0]:08x}", tuple(_mbr(image, first)))


def _gpt(image: Path, protective: bytes) -> Table:
    last = image.stat().st_size // SECTOR - 1
    assert 0xEE in {protective[446 + 16 * n + 4] for n in range(4)}, "no protective MBR"
    entries = []
    for place, other in ((1, last), (last, 1)):
        head = read(image, place * SECTOR, 92)
        assert head[:8] == _GPT, f"no GPT header in sector {place}"
        blank = head[:16] + bytes(4) + head[20:]
        assert zlib.crc32(blank) == struct.unpack_from("<I", head, 16)[0], f"GPT header {place}"
        mine, backup = struct.unpack_from("<QQ", head, 24)
        assert (mine, backup) == (place, other), f"GPT header {place} names {mine} and {backup}"
        at, count, size, crc = struct.unpack_from("<QIII", head, 72)
        table_ = read(image, at * SECTOR, count * size)
        assert zlib.crc32(table_) == crc, f"GPT entries of header {place}"
        entries.append((head[56:72], table_, size))
    assert entries[0] == entries[1], "the two GPTs differ"
    guid, table_, size = entries[0]
    parts = []
    for number, at in enumerate(range(0, len(table_), size), 1):
        kind, own, start, end, bits = struct.unpack_from("<16s16sQQQ", table_, at)
        if kind != bytes(16):
            name = table_[at + 56 : at + 128].decode("utf-16-le").rstrip("\0")
            parts.append(
                Part(
                    number, start * SECTOR, (end + 1 - start) * SECTOR,
                    str(uuid.UUID(bytes_le=kind)), name, str(uuid.UUID(bytes_le=own)), bits,
                )
            )  # fmt: skip
    return Table("gpt", str(uuid.UUID(bytes_le=guid)), tuple(parts))


def _mbr(image: Path, first: bytes) -> list[Part]:
    parts = []
    outer = 0
    for number in range(1, 5):
        kind, start, size = _mbr_entry(first, number - 1)
        if kind:
            parts.append(Part(number, start * SECTOR, size * SECTOR, f"{kind:#04x}"))
            if kind in _EXTENDED:
                outer = start
    number, link = 5, 0
    while outer:
        sector = read(image, (outer + link) * SECTOR, SECTOR)
        kind, start, size = _mbr_entry(sector, 0)
        if kind:
            at = (outer + link + start) * SECTOR
            parts.append(Part(number, at, size * SECTOR, f"{kind:#04x}"))
        kind, link, _ = _mbr_entry(sector, 1)
        number += 1
        if not kind:
            break
    return parts


def _mbr_entry(sector: bytes, index: int) -> tuple[int, int, int]:
    return struct.unpack_from("<xxxxBxxxII", sector, 446 + 16 * index)


def probe(image: Path, part: Part) -> dict[str, str]:
    """What blkid sees in a partition: `TYPE`, `UUID`, `LABEL`; empty when it sees nothing."""
    said = run(
        "blkid", "--probe", "--output", "export", "--offset", str(part.start),
        "--size", str(part.size), str(image), ok=(0, 2),
    )  # fmt: skip
    seen = dict(line.split("=", 1) for line in said.splitlines() if "=" in line)
    seen.pop("DEVNAME", None)
    return seen


def debugfs(image: Path, part: Part, request: str) -> str:
    """Ask debugfs about the ext4 file system of a partition."""
    return debugfs_bytes(image, part, request).decode("utf-8", "replace")


def debugfs_bytes(image: Path, part: Part, request: str) -> bytes:
    return run_bytes("debugfs", "-R", request, f"{image}?offset={part.start}", timeout=300)


def debugfs_about(image: Path, part: Part, command: str, numbers: Sequence[int]) -> str:
    """Ask debugfs one question about many blocks or inodes; empty for none."""
    lines = [
        f"{command} {' '.join(map(str, numbers[at : at + 1000]))}\n"
        for at in range(0, len(numbers), 1000)
    ]
    where = f"{image}?offset={part.start}"
    return run("debugfs", "-f", "-", where, given="".join(lines).encode(), timeout=300)


def ext4_file(image: Path, part: Part, path: str) -> bytes:
    """The content of a file of an ext4 partition; empty when there is none."""
    return debugfs_bytes(image, part, f'cat "{path}"')


def ext4_names(image: Path, part: Part, folder: str) -> list[str]:
    """Names in a folder of an ext4 partition."""
    lines = debugfs(image, part, f'ls -p "{folder}"').splitlines()
    names = [line.split("/")[5] for line in lines if line.count("/") >= 6]
    return [name for name in names if name not in {"", ".", ".."}]


def e2fsck(image: Path, part: Part) -> str:
    """Empty when e2fsck finds nothing, without mending anything; else what it says."""
    # Output on standard output even when it fails, hence every status is taken.
    where = f"{image}?offset={part.start}"
    said = run("sh", "-c", 'e2fsck -f -n "$0" 2>&1; echo "status $?"', where, timeout=600)
    return "" if said.endswith("\nstatus 0\n") else said


def fat_file(image: Path, part: Part, path: str) -> bytes:
    """The content of a file of a FAT partition."""
    return run_bytes("mtype", "-i", f"{image}@@{part.start}", f"::{path}")


def fat_tree(image: Path, part: Part, folder: Path) -> dict[str, bytes]:
    """Every file of a FAT partition, by path; `folder` is a scratch folder that is there."""
    run("mcopy", "-s", "-n", "-Q", "-i", f"{image}@@{part.start}", "::*", str(folder), timeout=300)
    return {
        f"/{path.relative_to(folder)}": path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def free_blocks(image: Path, part: Part) -> tuple[int, int, list[tuple[int, int]]]:
    """Block size, number of blocks, and ranges `[start, end)` of free blocks, by dumpe2fs."""
    return free_in(run("dumpe2fs", f"{image}?offset={part.start}", timeout=300))


def free_in(said: str) -> tuple[int, int, list[tuple[int, int]]]:
    """The same, out of what dumpe2fs said."""
    size = int(_one(r"^Block size:\s+(\d+)$", said))
    count = int(_one(r"^Block count:\s+(\d+)$", said))
    # The superblock's own sum is written lazily; the group descriptors are always right.
    expected = sum(map(int, re.findall(r"^  (\d+) free blocks,", said, re.MULTILINE)))
    free = []
    for listed in re.findall(r"^  Free blocks: (.*)$", said, re.MULTILINE):
        for item in listed.split(", "):
            if item:
                first, _, last = item.partition("-")
                free.append((int(first), int(last or first) + 1))
    total = sum(end - start for start, end in free)
    assert total == expected, f"dumpe2fs lists {total} free blocks and counts {expected}"
    return size, count, free


def _one(pattern: str, text: str) -> str:
    found = re.search(pattern, text, re.MULTILINE)
    assert found is not None, f"{pattern} is not in:\n{text[:2000]}"
    return found[1]
