# SPDX-License-Identifier: GPL-3.0-or-later
"""What the menu is made of. That GRUB does what it says: tests/vm/test_grub.py."""

import re
import struct
import zlib

import pytest

from grub.menu import LOOKS, MenuFacts, bar, quoted, render, shown, themed

GUID = "6d7c1c4e-0000-4000-8000-00000000d150"
NASTY = 'it\'s "$root" `x` \\ {;|} ü\n€'


def test_both_firmwares_get_the_same_script() -> None:
    files = render(MenuFacts("web01", "S3X-1", GUID))
    assert files["grub/grub.cfg"] == files["EFI/debian/grub.cfg"]
    assert all(path.split("/")[0] in {"grub", "EFI"} for path in files)


def test_each_look_that_the_script_may_choose_is_there() -> None:
    files = render(MenuFacts("web01", "S3X-1", GUID))
    script = files["grub/grub.cfg"].decode()
    for look in LOOKS:
        assert f"set look={look.name}\n" in script
        assert look.headline in files[f"grub/dpsr/{look.name}.txt"].decode()
    assert script.count("set look=") == len(LOOKS)


def test_the_script_names_no_identity_of_any_file_system() -> None:
    """All of it comes from the state block, so that an update need not touch the menu."""
    script = render(MenuFacts("web01", "S3X-1", GUID))["grub/grub.cfg"].decode()
    script = script.replace(f"dpsr.disk={GUID} ", "")  # of the whole disk, for the rescue system
    assert not re.search(r"[0-9a-f]{4}-[0-9a-f]{4}|hd\d", script, re.IGNORECASE)


def test_the_prefix_is_never_moved() -> None:
    script = render(MenuFacts("web01", "S3X-1", GUID))["grub/grub.cfg"].decode()
    assert "set prefix" not in script
    assert script.index("unset chosen") < script.index("configfile")


def test_any_name_is_shown_as_plain_text() -> None:
    for text in render(MenuFacts(NASTY, NASTY, GUID)).values():
        if not text.startswith(b"\x89PNG"):
            assert text.isascii()
    assert shown("  web01\t") == "web01"
    assert shown("ümlaut\n") == "?mlaut"
    assert len(shown("x" * 300)) == 40
    assert quoted("it's") == "'it'\\''s'"
    assert themed('a"b\\c') == "a'b/c"


@pytest.mark.parametrize("width", [1, 10])
def test_the_bar_is_a_picture_as_png_defines_it(width: int) -> None:
    picture = bar(width, (1, 2, 3))
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    chunks = {}
    at = 8
    while at < len(picture):
        (size,) = struct.unpack_from(">I", picture, at)
        kind, data = picture[at + 4 : at + 8], picture[at + 8 : at + 8 + size]
        (checksum,) = struct.unpack_from(">I", picture, at + 8 + size)
        assert checksum == zlib.crc32(kind + data)
        chunks[kind] = data
        at += 12 + size
    assert list(chunks) == [b"IHDR", b"IDAT", b"IEND"]
    assert chunks[b"IHDR"][:8] == struct.pack(">II", width, 1)
    assert zlib.decompress(chunks[b"IDAT"]) == b"\0" + bytes((1, 2, 3)) * width
