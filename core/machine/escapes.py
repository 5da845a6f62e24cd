# SPDX-License-Identifier: GPL-3.0-or-later
"""Undoes what the kernel, fstab, udev and blkid each do to characters that break lines. Pure."""

import re
from typing import Final

_OCTAL: Final = re.compile(r"\\([0-7]{3})")
_HEX: Final = re.compile(r"\\x([0-9a-fA-F]{2})")
_BACKSLASH: Final = re.compile(r"\\(.)")


def from_octal(word: str) -> str:
    r"""Undo the escapes of /proc and fstab: `\040` is a space."""
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), word) if "\\" in word else word


def from_hex(text: str) -> str:
    r"""Undo udev's escapes: `EFI\x20System`."""
    if "\\x" not in text:
        return text
    raw = _HEX.sub(lambda match: chr(int(match[1], 16)), text)
    try:
        return raw.encode("latin-1").decode("utf-8")  # it escapes the bytes of a character singly
    except UnicodeError:
        return raw


def from_backslash(text: str) -> str:
    r"""Undo the escapes of `blkid -o export`: `my\ label`."""
    return _BACKSLASH.sub(r"\1", text)
