# SPDX-License-Identifier: GPL-3.0-or-later
"""What is on a disk image, without mounting it: partitions, firmware, the copy's generation."""

import struct
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from core.errors import ToolError
from core.run import have, run, run_bytes
from grub import signed, state
from images.disks import image_format
from images.vm import MIB, Firmware

HEAD: Final = MIB
"""Bytes at the start of a disk that hold its table."""

_ESP: Final = uuid.UUID("C12A7328-F81F-11D2-BA4B-00A0C93EC93B")
_CONTROL: Final = "dpsr-control"


@dataclass(frozen=True, slots=True)
class Partition:
    """`start` and `size` in bytes; `name` is empty in an MBR."""

    start: int
    size: int
    esp: bool
    name: str = ""


def partitions(head: bytes) -> tuple[Partition, ...]:
    """The partitions that the first MiB of a disk tells of; none when there is no table.

    For choosing a firmware only: no checksum is looked at, logical partitions are left out.
    """
    if head[512:520] == b"EFI PART":
        first, count, each = struct.unpack_from("<QII", head, 512 + 72)
        found = []
        for number in range(count):
            entry = head[first * 512 + number * each :][:each]
            if len(entry) == each and any(entry[:16]):
                begin, last = struct.unpack_from("<QQ", entry, 32)
                name = entry[56:128].decode("utf-16-le", "replace").split("\0")[0]
                kind = uuid.UUID(bytes_le=entry[:16])
                found.append(Partition(begin * 512, (last - begin + 1) * 512, kind == _ESP, name))
        return tuple(found)
    if head[510:512] != b"\x55\xaa":
        return ()
    entries = (head[446 + 16 * number :][:16] for number in range(4))
    return tuple(
        Partition(begin * 512, size * 512, entry[4] == 0xEF)
        for entry in entries
        for begin, size in [struct.unpack_from("<II", entry, 8)]
        if entry[4] and size
    )


def firmware_for(head: bytes) -> Firmware:
    """UEFI where there is an ESP, BIOS where there is boot code only, else UEFI."""
    if any(part.esp for part in partitions(head)):
        return "uefi"
    return "bios" if any(head[:440]) else "uefi"


def read(image: Path, start: int, size: int, folder: Path) -> Path:
    """A range of the disk in `image` (multiples of 512), as a file in `folder`."""
    target = folder / f"range-{start}"
    block = MIB if start % MIB == 0 and size % MIB == 0 else 512
    run(
        "qemu-img", "dd", "-U", "-f", image_format(image), "-O", "raw", f"bs={block}",
        f"skip={start // block}", f"count={size // block}", f"if={image}", f"of={target}",
    )  # fmt: skip
    return target


@dataclass(frozen=True, slots=True)
class Control:
    """What the control partition of a DPSR disk tells."""

    generation: int | None = None
    secure: bool = False
    """Whether its loader starts under Secure Boot: it is signed, as is the GRUB beside it."""


def control(image: Path, head: bytes, folder: Path) -> Control:
    """What is on a DPSR disk's control partition; nothing for any other disk."""
    found = next((part for part in partitions(head) if part.name == _CONTROL), None)
    if found is None or not have("mtype"):
        return Control()
    try:
        part = read(image, found.start, found.size, folder)
    except ToolError:  # a damaged one is the drill's business to find out
        return Control()
    try:
        generation = None
        with suppress(ToolError):
            generation = state.parse(_file(part, state.FILE)).gen
        return Control(generation, all(_is_signed(part, name) for name in signed.names()))
    finally:
        part.unlink()


def _is_signed(part: Path, name: str) -> bool:
    try:
        return bool(signed.signature(_file(part, name)))
    except ToolError:
        return False


def _file(part: Path, name: str) -> bytes:
    return run_bytes("mtype", "-i", str(part), f"::{name}")
