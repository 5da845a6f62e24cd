# SPDX-License-Identifier: GPL-3.0-or-later
"""A file of digests as bytes; docs/on-disk-format.md describes it. Pure.

A header, then one section for each window of a slot, then a section that says that all are there.
"""

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import xxhash

from builder.digests.blocks import WINDOW, Digested
from builder.vault.undoformat import LogSlot, seed_of
from core.errors import UnknownFormat
from core.model.blockset import BlockSet
from core.model.plain import Misfit, from_plain, to_plain

MAGIC: Final = b"DPSRDIGS"
VERSION: Final = 1
HEAD: Final = struct.Struct("<8s2IQ")
SECTION: Final = struct.Struct("<4s2H4I2Q")
"""Magic, slot, flags, window, covered ranges, ranges with digests, digests, two checksums."""
HEADER_MOST: Final = 1 << 20
_SECTION_MAGIC: Final = b"\xd5Dig"
_SEAL: Final = 1


class Damaged(Exception):
    """A file of digests is not what was written. `str()` says what is wrong, in a sentence."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a file of digests is about."""

    txid: str
    disk_guid: str
    slots: tuple[LogSlot, ...]


@dataclass(frozen=True, slots=True)
class Section:
    """The head of one section, and where its content begins."""

    slot: int
    window: int
    covered: int
    ranges: int
    count: int
    head_sum: int
    body_sum: int
    at: int

    @property
    def body_at(self) -> int:
        """Where the digests begin."""
        return self.at + 8 * (self.covered + self.ranges)

    @property
    def end(self) -> int:
        """Where the next section begins."""
        return self.body_at + 8 * self.count


def encode_header(header: Header) -> bytes:
    """The bytes of a header."""
    text = json.dumps(to_plain(header), sort_keys=True).encode()
    start = MAGIC + struct.pack("<2I", VERSION, len(text))
    return start + struct.pack("<Q", xxhash.xxh3_64_intdigest(start + text)) + text


def decode_header(data: bytes, where: str) -> tuple[Header, int]:
    """The header at the beginning of `data`, and its length. Raises UnknownFormat, Damaged."""
    if len(data) < HEAD.size or not data.startswith(MAGIC):
        raise Damaged(f"{where} is no file of digests.")
    _magic, version, length, checksum = HEAD.unpack_from(data)
    if version != VERSION:
        raise UnknownFormat(f"{where} has version {version}, which this dpsr does not know.")
    text = data[HEAD.size : HEAD.size + length]
    if xxhash.xxh3_64_intdigest(data[:16] + text) != checksum:
        raise Damaged(f"The header of {where} is damaged.")
    try:
        return from_plain(Header, json.loads(text)), HEAD.size + length
    except (Misfit, ValueError) as reason:
        raise Damaged(f"The header of {where} makes no sense: {reason}.") from None


def encode_section(
    slot: int, window: int, covered: BlockSet, fresh: Digested, seed: int
) -> tuple[bytes, bytes]:
    """Head and content of one section; `covered` counts in blocks."""
    first = window * WINDOW
    runs = fresh.ranges
    ranges = b"".join(_pack(each, first) for each in (covered, runs))
    body = fresh.digests.astype("<u8").tobytes()
    start = struct.pack(
        "<4s2H4I", _SECTION_MAGIC, slot, 0, window, len(covered), len(runs), len(fresh.blocks)
    )
    return _head(start, ranges, body, seed), ranges + body


def encode_seal(seed: int) -> bytes:
    """The section that ends a file."""
    return _head(struct.pack("<4s2H4I", _SECTION_MAGIC, 0, _SEAL, 0, 0, 0, 0), b"", b"", seed)


def decode_section(data: bytes, at: int, where: str) -> Section | None:
    """The section whose head is `data` and ends at `at`; None: it ends the file. Raises Damaged."""
    if len(data) < SECTION.size:
        raise Damaged(f"{where} ends too early.")
    magic, slot, flags, window, covered, ranges, count, *sums = SECTION.unpack_from(data)
    if magic != _SECTION_MAGIC or flags not in {0, _SEAL}:
        raise Damaged(f"{where} is damaged.")
    return None if flags else Section(slot, window, covered, ranges, count, sums[0], sums[1], at)


def check_ranges(section: Section, head: bytes, ranges: bytes, seed: int, where: str) -> None:
    """Raises Damaged when head or ranges of a section are not what was written."""
    if xxhash.xxh3_64_intdigest(head[:24] + ranges, seed) != section.head_sum:
        raise Damaged(f"{where} is damaged.")


def decode_ranges(data: bytes, section: Section) -> tuple[BlockSet, BlockSet]:
    """What a section covers, and of what of that it has digests; both count in blocks."""
    pairs = np.frombuffer(data, "<u4").reshape(-1, 2).astype(np.int64)
    pairs[:, 1] += pairs[:, 0]
    pairs += section.window * WINDOW
    return BlockSet(pairs[: section.covered]), BlockSet(pairs[section.covered :])


def decode_digests(
    body: bytes, runs: BlockSet, section: Section, seed: int, where: str
) -> Digested:
    """The digests of a section. Raises Damaged."""
    if xxhash.xxh3_64_intdigest(body, seed) != section.body_sum or runs.total != section.count:
        raise Damaged(f"Digests in {where} are damaged.")
    lengths = runs.ranges[:, 1] - runs.ranges[:, 0]
    skipped = runs.ranges[:, 0] - np.cumsum(lengths) + lengths
    blocks = np.arange(section.count, dtype=np.int64) + np.repeat(skipped, lengths)
    return Digested(blocks, np.frombuffer(body, "<u8").astype(np.uint64))


def hash_of(heads: Sequence[bytes]) -> str:
    """By what a manifest names a file: xxh3-128 of its header and the heads of its sections."""
    state = xxhash.xxh3_128()
    for head in heads:
        state.update(head)
    return str(state.hexdigest())


def seed(txid: str) -> int:
    """The seed of the checksums, so that no section is taken for that of another file."""
    return seed_of(txid)


def _pack(ranges: BlockSet, first: int) -> bytes:
    pairs = ranges.ranges - first
    return np.column_stack((pairs[:, 0], pairs[:, 1] - pairs[:, 0])).astype("<u4").tobytes()


def _head(start: bytes, ranges: bytes, body: bytes, seed: int) -> bytes:
    sums = (xxhash.xxh3_64_intdigest(start + ranges, seed), xxhash.xxh3_64_intdigest(body, seed))
    return start + struct.pack("<2Q", *sums)
