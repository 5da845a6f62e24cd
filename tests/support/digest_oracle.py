# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads files of digests as docs/on-disk-format.md describes them, and compares them with slots.

It shares no code with the program: one dictionary, one block after the other.
"""

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import xxhash

from core.model.manifest import Manifest

BLOCK: Final = 4096
WINDOW: Final = 1 << 18


@dataclass
class File:
    """What one file says."""

    header: dict[str, Any]
    covered: dict[str, set[int]] = field(default_factory=dict)
    digests: dict[str, dict[int, int]] = field(default_factory=dict)
    hash: str = ""


def read(data: bytes) -> File:
    """Every byte of it, and every checksum."""
    assert len(data) > 24, "it ends in the header"
    magic, version, length, checksum = struct.unpack_from("<8sIIQ", data)
    assert (magic, version) == (b"DPSRDIGS", 1)
    text = data[24 : 24 + length]
    assert xxhash.xxh3_64_intdigest(data[:16] + text) == checksum
    found = File(json.loads(text))
    seed = int(found.header["txid"][:16], 16)
    heads = data[: 24 + length]
    at = 24 + length
    last = (-1, -1)
    while True:
        head = data[at : at + 40]
        assert len(head) == 40, "it ends too early"
        magic, slot, flags, window, covered, runs, count, first, second = struct.unpack(
            "<4sHHIIIIQQ", head
        )
        assert magic == b"\xd5Dig"
        heads += head
        at += 40
        ranges = data[at : at + 8 * (covered + runs)]
        body = data[at + len(ranges) : at + len(ranges) + 8 * count]
        at += len(ranges) + len(body)
        assert xxhash.xxh3_64_intdigest(head[:24] + ranges, seed) == first
        assert xxhash.xxh3_64_intdigest(body, seed) == second
        if flags == 1:
            assert at == len(data)
            break
        assert (slot, window) > last
        last = (slot, window)
        name = found.header["slots"][slot]["name"]
        blocks = [
            [window * WINDOW + begin + n for n in range(size)]
            for begin, size in struct.iter_unpack("<II", ranges)
        ]
        found.covered.setdefault(name, set()).update(*blocks[:covered])
        values = [value for (value,) in struct.iter_unpack("<Q", body)]
        listed = [block for each in blocks[covered:] for block in each]
        assert len(listed) == len(values)
        assert listed == sorted(set(listed))
        found.digests.setdefault(name, {}).update(zip(listed, values, strict=True))
    found.hash = xxhash.xxh3_128_hexdigest(heads)
    return found


def digests(vault: Path, manifest: Manifest) -> dict[str, dict[int, int]]:
    """What a generation vouches for: by slot, block and digest. Each block has one."""
    files = []
    for named in manifest.digests:
        files.append(read((vault / named.file).read_bytes()))
        assert files[-1].hash == named.hash
    known: dict[str, dict[int, int]] = {}
    for file in reversed(files):
        for name, values in file.digests.items():
            known.setdefault(name, {}).update(values)
    covered = files[0].covered if files else {}
    return {name: {block: known[name][block] for block in covered[name]} for name in covered}


def wrong(known: Mapping[int, int], data: bytes) -> list[int]:
    """The blocks of a slot that holds `data` whose digest is another."""
    return [
        block
        for block, value in sorted(known.items())
        if xxhash.xxh3_64_intdigest(data[block * BLOCK : (block + 1) * BLOCK]) != value
    ]


def check(vault: Path, manifest: Manifest, content: Mapping[str, bytes]) -> None:
    """Fails unless the digests of a generation, if it has any, are those of all that it held."""
    for name, known in digests(vault, manifest).items():
        assert wrong(known, content[name]) == [], (manifest.generation, name)
        assert len(known) == -(-len(content[name]) // BLOCK), (manifest.generation, name)
