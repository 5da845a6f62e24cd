# SPDX-License-Identifier: GPL-3.0-or-later
"""What a disk's first MiB tells."""

import struct
import uuid

import pytest

from images.inspect import firmware_for, partitions
from images.vm import MIB

ESP = uuid.UUID("C12A7328-F81F-11D2-BA4B-00A0C93EC93B")
LINUX = uuid.UUID("0FC63DAF-8483-4772-8E79-3D69D8477DE4")


def gpt(*entries: tuple[uuid.UUID, int, int, str]) -> bytes:
    head = bytearray(MIB)
    head[510:512] = b"\x55\xaa"
    head[446 + 4] = 0xEE
    head[512:520] = b"EFI PART"
    struct.pack_into("<QII", head, 512 + 72, 2, 128, 128)
    for number, (kind, first, last, name) in enumerate(entries):
        at = 1024 + 128 * number
        head[at : at + 16] = kind.bytes_le
        struct.pack_into("<QQ", head, at + 32, first, last)
        head[at + 56 : at + 128] = name.encode("utf-16-le").ljust(72, b"\0")
    return bytes(head)


def mbr(kind: int, code: bytes = b"") -> bytes:
    head = bytearray(MIB)
    head[: len(code)] = code
    head[510:512] = b"\x55\xaa"
    struct.pack_into("<II", head, 446 + 8, 2048, 4096)
    head[446 + 4] = kind
    return bytes(head)


def test_a_gpt_with_names() -> None:
    found = partitions(gpt((LINUX, 34, 2047, "dpsr-bios"), (ESP, 2048, 4095, "dpsr-control")))
    assert [part.name for part in found] == ["dpsr-bios", "dpsr-control"]
    assert found[1].start == MIB
    assert found[1].size == MIB
    assert [part.esp for part in found] == [False, True]


def test_an_mbr() -> None:
    (part,) = partitions(mbr(0x83))
    assert (part.start, part.size, part.esp) == (MIB, 2 * MIB, False)


@pytest.mark.parametrize(
    ("head", "firmware"),
    [
        (gpt((ESP, 2048, 4095, "")), "uefi"),
        (gpt((LINUX, 2048, 4095, "")), "uefi"),
        (mbr(0xEF), "uefi"),
        (mbr(0x83, b"\xeb\x63"), "bios"),
        (mbr(0xEF, b"\xeb\x63"), "uefi"),
        (bytes(MIB), "uefi"),
        (b"", "uefi"),
    ],
)  # fmt: skip
def test_the_firmware_that_fits(head: bytes, firmware: str) -> None:
    assert firmware_for(head) == firmware


def test_a_damaged_table_is_no_reason_to_stumble() -> None:
    head = bytearray(gpt((ESP, 2048, 4095, "")))
    struct.pack_into("<QII", head, 512 + 72, 2**40, 2**16, 128)
    assert partitions(bytes(head)) == ()
