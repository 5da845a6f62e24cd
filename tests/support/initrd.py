# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads an initrd as the kernel does: archives one after the other, later over earlier ones."""

import zlib
from typing import Final

import zstandard

_CPIO: Final = b"070701"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_GZIP: Final = b"\x1f\x8b"


def unpack(data: bytes) -> dict[str, bytes]:
    """Each file by path, as the kernel has it in the end. Fails where the kernel would stop."""
    files: dict[str, bytes] = {}
    at = 0
    while at < len(data):
        if data[at] == 0:
            at += 1
        elif data.startswith(_CPIO, at):
            assert at % 4 == 0, f"an archive begins at {at}, where the kernel does not look for one"
            at = _archive(data, at, files)
        elif data.startswith((_ZSTD, _GZIP), at):
            stream = (
                zstandard.ZstdDecompressor().decompressobj()
                if data.startswith(_ZSTD, at)
                else zlib.decompressobj(31)
            )
            files |= unpack(stream.decompress(data[at:]))
            at = len(data) - len(stream.unused_data)
        else:
            raise AssertionError(f"the kernel would stop at byte {at}: {data[at : at + 16]!r}")
    return files


def _archive(data: bytes, at: int, files: dict[str, bytes]) -> int:
    """Read one newc archive into `files`; return where it ends."""
    while True:
        assert data.startswith(_CPIO, at), f"no entry at byte {at}: {data[at : at + 16]!r}"
        numbers = [int(data[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        size, length = numbers[6], numbers[11]
        name = data[at + 110 : at + 109 + length].decode()
        begin = _round(at + 110 + length)
        at = _round(begin + size)
        if name == "TRAILER!!!":
            return at
        files[name.removeprefix("./")] = data[begin : begin + size]


def _round(offset: int) -> int:
    return -(-offset // 4) * 4
