# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads what an initrd holds, as the kernel would unpack it, and writes newc archives.

An initrd is a row of cpio archives, plain or compressed each on its own, with zeros between them;
of two files with one name the later one stays. Source: the kernel's
Documentation/driver-api/early-userspace/buffer-format.rst and init/initramfs.c.
"""

import bz2
import lzma
import stat
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from core.errors import FixupFailed
from core.run import run_bytes

CHUNK: Final = 256 * 1024
_HEADER: Final = 110
_TRAILER: Final = "TRAILER!!!"
_LZ4: Final = b"\x02\x21\x4c\x18"


@dataclass(frozen=True, slots=True)
class Entry:
    """One file, folder or link of an archive; `name` without a leading `/` or `./`."""

    name: str
    mode: int
    size: int

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file."""
        return stat.S_ISREG(self.mode)


Wanted = Callable[[Entry], bool]
"""Says of which entries the content is read."""


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /) -> bytes: ...


class _Bytes:
    """A stream that can be looked into and be given bytes back."""

    def __init__(self, more: Callable[[], bytes]) -> None:
        self._more = more
        self._held = b""
        self._at = 0

    def peek(self, count: int) -> bytes:
        while len(self._held) - self._at < count and (chunk := self._more()):
            self._held = self._held[self._at :] + chunk
            self._at = 0
        return self._held[self._at : self._at + count]

    def read(self, count: int) -> bytes:
        parts = []
        while count:
            if self._at == len(self._held):
                self._held, self._at = self._more(), 0
                if not self._held:
                    raise EOFError
            part = self._held[self._at : self._at + count]
            parts.append(part)
            self._at += len(part)
            count -= len(part)
        return b"".join(parts)

    def skip(self, count: int) -> None:
        while count:
            count -= len(self.read(min(count, CHUNK)))

    def skip_zeros(self) -> bool:
        """Go on to the next byte that is not zero; False when there is none."""
        while self.peek(1):
            rest = self._held[self._at :].lstrip(b"\0")
            self._at = len(self._held) - len(rest)
            if rest:
                return True
        return False

    def give_back(self, data: bytes) -> None:
        self._held, self._at = data + self._held[self._at :], 0

    def some(self) -> bytes:
        """Whatever comes next, empty at the end."""
        if self._at < len(self._held):
            chunk, self._held, self._at = self._held[self._at :], b"", 0
            return chunk
        return self._more()


def walk(path: Path, wanted: Wanted, length: int | None = None) -> Iterator[tuple[Entry, bytes]]:
    """Every entry of the initrd `path` in order, with its content where `wanted` says so, else b"".

    `length`: read only so many bytes of it. Memory: a few chunks and the largest wanted file.
    Raises FixupFailed when it cannot be read to its end.
    """
    with path.open("rb") as stream:
        source = _Bytes(_reader(stream, length))
        try:
            while source.skip_zeros():
                yield from _segment(source, wanted)
        except (EOFError, ValueError, zlib.error, lzma.LZMAError, OSError) as reason:
            raise FixupFailed(
                f"The initrd {path.name} of the copy cannot be read ({str(reason) or 'cut off'}).",
                "Rebuild it with `update-initramfs -u -k all`, then run the command again.",
            ) from None


def archive(files: Iterable[tuple[str, int, bytes]]) -> bytes:
    """A newc archive of `(name, mode, content)`: always the same bytes for the same files."""
    out = bytearray()
    number = 0
    for number, (name, mode, content) in enumerate(files, 1):
        _append(out, number, name, mode, content)
    _append(out, number + 1, _TRAILER, 0, b"")
    return bytes(out)


def _append(out: bytearray, number: int, name: str, mode: int, content: bytes) -> None:
    encoded = name.encode() + b"\0"
    links = 2 if stat.S_ISDIR(mode) else 1
    fields = (number, mode, 0, 0, links, 0, len(content), 0, 0, 0, 0, len(encoded), 0)
    out += b"070701" + b"".join(b"%08X" % field for field in fields) + encoded
    out += b"\0" * (-len(out) % 4)
    out += content
    out += b"\0" * (-len(out) % 4)


def _reader(stream: BinaryIO, length: int | None) -> Callable[[], bytes]:
    left = length

    def more() -> bytes:
        nonlocal left
        if left is None:
            return stream.read(CHUNK)
        chunk = stream.read(min(CHUNK, left))
        left -= len(chunk)
        return chunk

    return more


def _segment(source: _Bytes, wanted: Wanted) -> Iterator[tuple[Entry, bytes]]:
    if source.peek(5) == b"07070":
        yield from _cpio(source, wanted)
        return
    inside = _Bytes(_lz4(source) if source.peek(4) == _LZ4 else _inflated(source))
    while inside.skip_zeros():
        yield from _cpio(inside, wanted)


def _cpio(source: _Bytes, wanted: Wanted) -> Iterator[tuple[Entry, bytes]]:
    while True:
        header = source.read(_HEADER)
        if header[:6] not in {b"070701", b"070702"}:
            raise ValueError("no cpio header where one should be")
        mode, size, name_length = (int(header[at : at + 8], 16) for at in (14, 54, 94))
        name = source.read(name_length)[:-1].decode("utf-8", "surrogateescape")
        source.skip(-(_HEADER + name_length) % 4)
        if name == _TRAILER:
            return
        while name.startswith(("/", "./")):
            name = name.lstrip("/").removeprefix("./")
        entry = Entry(name, mode, size)
        content = source.read(size) if wanted(entry) else b""
        if not content:
            source.skip(size)
        source.skip(-size % 4)
        yield entry, content


def _inflated(source: _Bytes) -> Callable[[], bytes]:
    """What the compressed segment at `source` holds; what follows it is left in `source`."""
    engine = _engine(source.peek(6))

    def more() -> bytes:
        ended = engine.eof
        while not ended:
            chunk = source.some()
            if not chunk:
                raise EOFError
            plain = engine.decompress(chunk)
            ended = engine.eof
            if ended:
                source.give_back(engine.unused_data)
            if plain:
                return plain
        return b""

    return more


def _engine(magic: bytes) -> _Decompressor:
    if magic[:2] == b"\x1f\x8b":
        return zlib.decompressobj(31)
    if magic[:4] == b"\x28\xb5\x2f\xfd":
        import zstandard

        return zstandard.ZstdDecompressor().decompressobj()
    if magic[:6] == b"\xfd7zXZ\0" or magic[:3] == b"\x5d\0\0":
        return lzma.LZMADecompressor()
    if magic[:3] == b"BZh":
        return bz2.BZ2Decompressor()
    raise ValueError(f"unknown compression {magic.hex()}")


def _lz4(source: _Bytes) -> Callable[[], bytes]:
    """The legacy format that kernels read: blocks of 8 MiB each on its own, and no end mark."""
    source.read(4)

    def more() -> bytes:
        head = source.peek(4)
        if len(head) < 4 or head in {b"\0\0\0\0", b"0707"}:
            return b""
        if head == _LZ4:
            source.read(4)
            return more()
        source.read(4)
        (size,) = struct.unpack("<I", head)
        return run_bytes("lz4", "-dc", given=_LZ4 + head + source.read(size))

    return more
