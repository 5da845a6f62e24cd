# SPDX-License-Identifier: GPL-3.0-or-later
"""Initrds are read as the kernel unpacks them, whatever they are put together from."""

import bz2
import gzip
import lzma
import stat
from pathlib import Path

import pytest
import zstandard

from builder.fixup.cpio import Entry, archive, walk
from core.errors import FixupFailed

FILE = stat.S_IFREG | 0o644


def _read(path: Path, length: int | None = None) -> list[tuple[str, bytes]]:
    return [(entry.name, content) for entry, content in walk(path, _all, length)]


def _all(entry: Entry) -> bool:
    return entry.is_file


def _pack(*files: tuple[str, bytes]) -> bytes:
    return archive((name, FILE, content) for name, content in files)


def _zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


def test_early_main_and_late_parts(tmp_path: Path) -> None:
    path = tmp_path / "initrd"
    parts = [
        _pack(("kernel/x86/microcode/AuthenticAMD.bin", b"m" * 1001)).ljust(5120, b"\0"),
        _zstd(_pack(("init", b"#!/bin/sh"), ("conf/arch.conf", b"DPKG_ARCH=amd64\n"))),
        b"\0" * 77,
        _pack(("conf/conf.d/resume", b"RESUME=none\n")).ljust(1024, b"\0"),
    ]
    path.write_bytes(b"".join(parts))
    assert _read(path) == [
        ("kernel/x86/microcode/AuthenticAMD.bin", b"m" * 1001),
        ("init", b"#!/bin/sh"),
        ("conf/arch.conf", b"DPKG_ARCH=amd64\n"),
        ("conf/conf.d/resume", b"RESUME=none\n"),
    ]
    assert len(_read(path, len(parts[0]) + len(parts[1]))) == 3


@pytest.mark.parametrize("squeeze", [gzip.compress, lzma.compress, bz2.compress, _zstd])
def test_every_compression_ends_where_it_ends(tmp_path: Path, squeeze: object) -> None:
    assert callable(squeeze)
    path = tmp_path / "initrd"
    large = bytes(range(256)) * 8000
    path.write_bytes(squeeze(_pack(("a", b"1"), ("large", large))) + b"\0" * 4 + _pack(("b", b"2")))
    assert _read(path) == [("a", b"1"), ("large", large), ("b", b"2")]


def test_names_are_those_in_the_root(tmp_path: Path) -> None:
    path = tmp_path / "initrd"
    path.write_bytes(_pack(("./etc/fstab", b""), ("/x", b"y")))
    assert _read(path) == [("etc/fstab", b""), ("x", b"y")]


def test_only_what_is_wanted_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "initrd"
    path.write_bytes(_pack(("a", b"xyz"), ("b", b"xyz")))
    found = [(entry.name, content) for entry, content in walk(path, lambda e: e.name == "b")]
    assert found == [("a", b""), ("b", b"xyz")]


@pytest.mark.parametrize(
    "content",
    [
        _pack(("a", b"1" * 500))[:400],
        _zstd(_pack(("a", b"1")))[:-6],
        gzip.compress(_pack(("a", b"1" * 9999)))[:-40],
        b"what is this",
        b"070701" + b"zz" * 60,
    ],
)
def test_what_cannot_be_read_to_its_end_is_an_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "initrd.img-6.1"
    path.write_bytes(content)
    with pytest.raises(FixupFailed, match=r"initrd\.img-6\.1"):
        _read(path)


def test_the_same_files_give_the_same_bytes() -> None:
    assert _pack(("a", b"1")) == _pack(("a", b"1"))
    assert len(_pack(("a", b"1"))) % 4 == 0
