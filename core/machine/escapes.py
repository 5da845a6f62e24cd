# SPDX-License-Identifier: GPL-3.0-or-later
"""Undoes what the kernel, fstab, udev and blkid each do to characters that break lines. Pure."""

import re
from typing import Final

# Compiled when they are used: names that need them are rare, and `dpsr status` is in a hurry.
_OCTAL: Final = r"\\([0-7]{3})"
_HEX: Final = r"\\x([0-9a-fA-F]{2})"
_BACKSLASH: Final = r"\\(.)"


def from_octal(word: str) -> str:
    r"""Undo the escapes of /proc and fstab: `\040` is a space."""
    if "\\" not in word:
        return word
    return re.sub(_OCTAL, lambda match: chr(int(match[1], 8)), word)


def from_hex(text: str) -> str:
    r"""Undo udev's escapes: `EFI\x20System`."""
    if "\\x" not in text:
        return text
    raw = re.sub(_HEX, lambda match: chr(int(match[1], 16)), text)
    try:
        return raw.encode("latin-1").decode("utf-8")  # it escapes the bytes of a character singly
    except UnicodeError:
        return raw


def from_backslash(text: str) -> str:
    r"""Undo the escapes of `blkid -o export`: `my\ label`."""
    return re.sub(_BACKSLASH, r"\1", text)
