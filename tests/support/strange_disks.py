# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks that `prepare` must leave alone, as images made by other people's tools or by the byte."""

import struct
from pathlib import Path
from typing import Final

from core.run import run
from images import disks
from tests.support import disk_image

MIB: Final = 1 << 20
_TABLE: Final = "label: gpt\nstart=2048, size=131072, type=L\nstart=133120, size=65536, type=S\n"
EXT4_UUID: Final = "eeeeeeee-1111-4222-8333-444444444444"


def blank(folder: Path, size: int) -> Path:
    return disks.new_disk(folder / f"blank-{size // MIB}.qcow2", size)


def used(folder: Path) -> Path:
    """Two partitions: ext4 and swap."""
    image = folder / "used.raw"
    with open(image, "wb") as stream:
        stream.truncate(5120 * MIB)
    run("sfdisk", "-q", "--no-reread", "--no-tell-kernel", str(image), given=_TABLE.encode())
    first, second = disk_image.table(image).parts
    run("mke2fs", "-qF", "-t", "ext4", "-U", EXT4_UUID, "-E", f"offset={first.start}",
        str(image), "64m")  # fmt: skip
    area = folder / "area"
    with open(area, "wb") as stream:
        stream.truncate(second.size)
    run("mkswap", "-q", str(area))
    _put(image, second.start, area.read_bytes()[:4096])
    return _sure(image, {1: "ext4", 2: "swap"})


def xfs(folder: Path) -> Path:
    """A file system that this version does not copy, on a partition."""
    image = folder / "xfs.raw"
    with open(image, "wb") as stream:
        stream.truncate(512 * MIB)
    run("sfdisk", "-q", "--no-reread", "--no-tell-kernel", str(image),
        given=b"label: gpt\nstart=2048, size=800000, type=L\n")  # fmt: skip
    part = disk_image.table(image).parts[0]
    area = folder / "xfs.area"
    with open(area, "wb") as stream:
        stream.truncate(part.size)
    run("mkfs.xfs", "-q", str(area))
    run("dd", f"if={area}", f"of={image}", "bs=1M", "seek=1", "conv=notrunc,sparse", "status=none")
    return _sure(image, {1: "xfs"})


def lvm(folder: Path) -> Path:
    """A physical volume of LVM: a label in the disk's second sector."""
    image = _whole(folder / "lvm.raw")
    body = struct.pack("<I8s32sQ", 32, b"LVM2 001", b"a" * 32, 5120 * MIB).ljust(512 - 20, b"\0")
    label = struct.pack("<8sQI", b"LABELONE", 1, _lvm_crc(body)) + body
    _put(image, 512, label)
    return _sure_whole(image, "LVM2_member")


def md(folder: Path) -> Path:
    """A member of an md array: version 1.2, whose superblock lies 4 KiB into the disk."""
    image = _whole(folder / "md.raw")
    block = bytearray(256)
    struct.pack_into("<III", block, 0, 0xA92B4EFC, 1, 0)
    block[16:32] = b"u" * 16
    block[32:36] = b"name"
    struct.pack_into("<QIiQII", block, 64, 0, 1, 0, 4096, 0, 2)
    struct.pack_into("<QQQ", block, 128, 2048, 4096, 8)
    (words,) = (struct.unpack(f"<{len(block) // 4}I", bytes(block)),)
    total = sum(words)
    struct.pack_into("<I", block, 216, ((total & 0xFFFFFFFF) + (total >> 32)) & 0xFFFFFFFF)
    _put(image, 4096, bytes(block))
    return _sure_whole(image, "linux_raid_member")


def _whole(image: Path) -> Path:
    with open(image, "wb") as stream:
        stream.truncate(5120 * MIB)
    return image


def _put(image: Path, at: int, content: bytes) -> None:
    with open(image, "r+b") as stream:
        stream.seek(at)
        stream.write(content)


def _sure(image: Path, kinds: dict[int, str]) -> Path:
    """What blkid sees there is what was meant."""
    found = {
        p.number: disk_image.probe(image, p).get("TYPE") for p in disk_image.table(image).parts
    }
    assert found == kinds, found
    return image


def _sure_whole(image: Path, kind: str) -> Path:
    said = run("blkid", "--probe", "--output", "value", "--match-tag", "TYPE", str(image))
    assert said.strip() == kind, said
    return image


def _lvm_crc(data: bytes) -> int:
    """LVM's own: the polynomial of Ethernet, another start, nothing inverted."""
    value = 0xF597A6CF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0xEDB88320 if value & 1 else 0)
    return value
