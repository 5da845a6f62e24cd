# SPDX-License-Identifier: GPL-3.0-or-later
"""GRUB environment blocks, as GRUB's lib/envblk.c reads and rewrites them. Pure."""

from collections.abc import Iterable
from typing import Final

SIZE: Final = 1024
"""Length of a block; GRUB's own tools make no other."""
SIGNATURE: Final = b"# GRUB Environment Block\n"
EMPTY: Final = SIGNATURE.ljust(SIZE, b"#")


class NoBlock(ValueError):
    """The bytes are no environment block. `str()` says why."""


def encode(pairs: Iterable[tuple[str, str]], within: int = SIZE) -> bytes:
    """A block of `SIZE` bytes with these settings, all in its first `within` bytes.

    Raises ValueError when they do not fit, or a name is none.
    """
    text = SIGNATURE
    for name, value in pairs:
        if not name or name.startswith("#") or set("=\n\\") & set(name):
            raise ValueError(f"{name!r} is no name for a setting of GRUB's environment block")
        escaped = value.replace("\\", "\\\\").replace("\n", "\\\n")
        text += f"{name}={escaped}\n".encode()
    if len(text) > within:
        raise ValueError(f"{len(text)} bytes do not fit into {within}")
    return text.ljust(SIZE, b"#")


def decode(data: bytes) -> tuple[tuple[str, str], ...]:
    """The settings of a block, in their order. Raises NoBlock, also when a name comes twice."""
    if len(data) != SIZE or not data.startswith(SIGNATURE):
        raise NoBlock("it does not begin as a GRUB environment block does")
    found: dict[str, str] = {}
    for line in _lines(data[len(SIGNATURE) :]):
        if line.startswith(b"#"):
            continue  # a comment, or the filling at the end
        try:
            name, equals, value = line.decode().partition("=")
        except UnicodeDecodeError:
            raise NoBlock("it holds bytes that are no text") from None
        if not name or not equals:
            raise NoBlock(f"it has a line without a name: {line.decode()!r}")
        if name in found:
            raise NoBlock(f"it names {name} twice")
        found[name] = value
    return tuple(found.items())


def _lines(data: bytes) -> Iterable[bytes]:
    """Lines with GRUB's escapes resolved; a backslash takes the next byte as it is."""
    line = bytearray()
    bytes_left = iter(data)
    for byte in bytes_left:
        if byte == ord("\\"):
            line.append(next(bytes_left, byte))
        elif byte == ord("\n"):
            yield bytes(line)
            line.clear()
        else:
            line.append(byte)
    if line:
        if not line.startswith(b"#"):
            raise NoBlock("its last line has no end")
        yield bytes(line)
