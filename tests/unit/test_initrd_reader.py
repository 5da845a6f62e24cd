# SPDX-License-Identifier: GPL-3.0-or-later
"""The tests' own reader of initrds."""

import gzip

import pytest
import zstandard

from tests.support.initrd import unpack


def archive(**files: bytes) -> bytes:
    made = b""
    for name, content in (*files.items(), ("TRAILER!!!", b"")):
        numbers = [0] * 6 + [len(content)] + [0] * 4 + [len(name) + 1, 0]
        made += b"070701" + b"".join(b"%08x" % number for number in numbers)
        made += name.encode() + b"\0"
        made += bytes(-len(made) % 4) + content
        made += bytes(-len(made) % 4)
    return made


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.compress])
def test_later_archives_win(pack: object) -> None:
    assert callable(pack)
    early = archive(a=b"1", b=b"22") + bytes(300)
    early += bytes(-len(early) % 4)
    main = pack(archive(b=b"333", c=b""))
    late = bytes(-(len(early) + len(main)) % 512) + archive(c=b"4444")
    assert unpack(early + main + late) == {"a": b"1", "b": b"333", "c": b"4444"}


def test_what_the_kernel_would_not_read_is_no_initrd() -> None:
    with pytest.raises(AssertionError, match="the kernel would stop at byte"):
        unpack(archive(a=b"1") + b"junk")
    with pytest.raises(AssertionError, match="where the kernel does not look"):
        unpack(archive(a=b"1") + b"\0" + archive(b=b"2"))
