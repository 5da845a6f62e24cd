# SPDX-License-Identifier: GPL-3.0-or-later
"""Ranges are copied, all of them, in order, and nothing that is to be spared."""

import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.change.ext4 import gather
from builder.copying import copier
from builder.copying.copier import CHUNK, Copier, Room
from builder.copying.direct import Reader, SlotWriter, buffer
from core.errors import ReadFailed, WriteFailed
from core.model.blockset import EMPTY, BlockSet

SIZE = 12 << 20
FAR = 1 << 20
"""Further apart than what is bridged."""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(Random(1).randbytes(SIZE))
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "target"
    path.write_bytes(bytes(SIZE))
    return path


@dataclass
class Log:
    """Remembers what was written, and when asked fails."""

    fails_at: int = -1
    written: list[tuple[int, bytes]] = field(default_factory=list)

    def write(self, offset: int, view: memoryview) -> None:
        if len(self.written) == self.fails_at:
            raise WriteFailed("full")
        self.written.append((offset, bytes(view)))

    def flush(self) -> None:
        raise AssertionError("whoever copies flushes")


@pytest.fixture
def copying() -> Iterator[Copier]:
    with Copier() as made:
        yield made


def ranges_of(log: Log) -> BlockSet:
    return BlockSet.of((offset, offset + len(content)) for offset, content in log.written)


def copy(
    copying: Copier, source: Path, log: Log, blocks: BlockSet, *,
    spared: BlockSet = EMPTY, against: Path | None = None,
) -> tuple[int, int]:  # fmt: skip
    """Bytes written, bytes advanced."""
    advanced: list[int] = []
    with closing(Reader(str(source))) as reader, closing(Reader(str(against or source))) as other:
        written = copying.copy(
            reader, log, blocks, advanced.append, spared=spared, against=other if against else None
        )
    return written, sum(advanced)


def test_all_ranges_in_order(copying: Copier, source: Path) -> None:
    dice = Random(2)
    pairs = [
        (start, start + 4096 * dice.randrange(1, 300)) for start in range(0, SIZE - FAR, FAR * 2)
    ]
    log = Log()
    figures = copy(copying, source, log, BlockSet.of(pairs))
    assert figures == (BlockSet.of(pairs).total,) * 2
    assert [offset for offset, _ in log.written] == sorted(offset for offset, _ in log.written)
    data = source.read_bytes()
    assert b"".join(content for _, content in log.written) == b"".join(data[s:e] for s, e in pairs)


def test_a_range_longer_than_a_buffer(copying: Copier, source: Path) -> None:
    log = Log()
    copy(copying, source, log, BlockSet.of([(4096, SIZE)]))
    assert ranges_of(log) == BlockSet.of([(4096, SIZE)])
    assert b"".join(content for _, content in log.written) == source.read_bytes()[4096:]
    assert max(len(content) for _, content in log.written) == CHUNK


def test_short_gaps_are_copied_along_but_never_what_is_spared(
    copying: Copier, source: Path
) -> None:
    blocks = BlockSet.of([(0, 4096), (8192, 12_288), (20_480, 24_576), (FAR, FAR + 4096)])
    log = Log()
    copy(copying, source, log, blocks, spared=BlockSet.of([(0, 4096), (12_288, 16_384)]))
    assert list(ranges_of(log)) == [(4096, 12_288), (16_384, 24_576), (FAR, FAR + 4096)]


@settings(max_examples=25)
@given(
    st.lists(st.tuples(st.integers(0, 2000), st.integers(1, 40)), min_size=1, max_size=80),
    st.lists(st.integers(0, 2000), max_size=5),
)
def test_without_gaps_just_what_was_asked_for(
    wanted: list[tuple[int, int]], spared: list[int]
) -> None:
    """However it is read: near ranges at once, long ones in pieces."""
    data = Random(1).randbytes(SIZE)
    blocks = BlockSet.of((at * 4096, (at + count) * 4096) for at, count in wanted)
    left_out = BlockSet.of((at * 4096, (at + 1) * 4096) for at in spared)
    log = Log()
    with tempfile.NamedTemporaryFile() as file, Copier() as copying:
        file.write(data)
        file.flush()
        with closing(Reader(file.name)) as reader:
            written = copying.copy(reader, log, blocks, lambda _: None, spared=left_out, gaps=False)
    assert ranges_of(log) == blocks.minus(left_out)
    assert written == sum(len(content) for _, content in log.written)
    assert written == blocks.minus(left_out).total
    assert all(content == data[at : at + len(content)] for at, content in log.written)


def test_only_what_differs(copying: Copier, source: Path, target: Path) -> None:
    content = bytearray(source.read_bytes())
    for at in (5000, FAR, FAR + 4096, SIZE - 1):
        content[at] ^= 1
    target.write_bytes(content)
    log = Log()
    figures = copy(copying, source, log, BlockSet.of([(0, SIZE)]), against=target)
    assert figures == (4 * 4096, SIZE)
    assert list(ranges_of(log)) == [(4096, 8192), (FAR, FAR + 8192), (SIZE - 4096, SIZE)]
    assert all(source.read_bytes()[at : at + len(data)] == data for at, data in log.written)


def test_comparing_finds_what_differs_and_writes_nothing(
    copying: Copier, source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = bytearray(source.read_bytes())
    places = (0, 3 * CHUNK // 2, 9 << 20, SIZE - 1)
    for place in places:
        content[place] ^= 1
    target.write_bytes(content)
    blocks = BlockSet.of([(0, 8192), (16384, 5 << 20), (6 << 20, SIZE)])  # a short gap, and a long
    wanted = BlockSet.of((place - place % 4096, place - place % 4096 + 4096) for place in places)
    seen: list[int] = []
    with closing(Reader(str(source))) as ours, closing(Reader(str(target))) as theirs:
        assert copying.compare(ours, theirs, blocks, seen.append) == (wanted, True)
        assert blocks.total <= sum(seen) <= blocks.total + 8192
        monkeypatch.setattr(gather.Gatherer.__init__, "__kwdefaults__", {"most": 3})
        coarse, exactly = copying.compare(ours, theirs, blocks, seen.append)
    assert not exactly
    assert not wanted.minus(coarse)
    assert len(coarse) <= 3
    assert target.read_bytes() == content


def test_it_ends_with_the_first_failure_and_can_be_used_again(
    copying: Copier, source: Path
) -> None:
    whole = BlockSet.of([(0, SIZE)])
    for number in (0, 0, 1, 2, 0, 0):
        with pytest.raises(WriteFailed):
            copy(copying, source, Log(fails_at=number), whole)
    with pytest.raises(ReadFailed, match=f"ends at byte {SIZE}"):
        copy(copying, source, Log(), BlockSet.of([(0, SIZE + 4096)]))
    log = Log()
    copy(copying, source, log, whole)
    assert ranges_of(log) == whole


def test_nothing_to_copy(copying: Copier, source: Path) -> None:
    assert copy(copying, source, Log(), EMPTY) == (0, 0)


def test_read_into_memory(copying: Copier, source: Path) -> None:
    blocks = BlockSet.of((start, start + 4096) for start in range(0, SIZE, 65_536))
    with closing(Reader(str(source))) as reader:
        pieces = copying.read(reader, blocks, Room([buffer(blocks.total)]))
    data = source.read_bytes()
    assert [(at, bytes(view)) for at, view in pieces] == [(s, data[s:e]) for s, e in blocks]


def test_read_into_what_the_copier_lends(copying: Copier, source: Path) -> None:
    """Its own buffers first; in any case as much as was asked for, in places of their own."""
    for size in (SIZE, 40 << 20):
        room = copying.lend(size)
        assert room.left >= size
        blocks = BlockSet.of([(0, 3 << 20), (4 << 20, SIZE)])
        with closing(Reader(str(source))) as reader:
            pieces = copying.read(reader, blocks, room)
        data = source.read_bytes()
        assert BlockSet.of((at, at + len(view)) for at, view in pieces) == blocks
        assert all(bytes(view) == data[at : at + len(view)] for at, view in pieces)


def test_a_comparison_meanwhile_and_a_copy_share_the_buffers(
    copying: Copier, source: Path, target: Path
) -> None:
    whole = BlockSet.of([(0, SIZE)])
    with closing(Reader(str(source))) as reader, closing(Reader(str(target))) as other:
        alike = [copying.compare_meanwhile(reader, reader, whole) for _ in range(5)]
        unlike = copying.compare_meanwhile(reader, other, whole)
        log = Log()
        copy(copying, source, log, whole)
        assert [coming.result() for coming in alike] == [(EMPTY, True)] * 5
        assert unlike.result() == (whole, True)
    assert b"".join(content for _, content in log.written) == source.read_bytes()


def test_many_small_ranges_share_buffers() -> None:
    blocks = BlockSet.of((start, start + 4096) for start in range(0, 2000 * FAR, FAR))
    batches = list(copier._batches(blocks))
    assert [pair for batch in batches for pair in batch] == list(blocks)
    assert len(batches) < 40


def test_a_slot_reads_back(source: Path, target: Path) -> None:
    with closing(Reader(str(source))) as reader, closing(SlotWriter(str(target))) as writer:
        room = buffer(SIZE)
        reader.read_into(0, room)
        writer.write(0, room[:FAR])
        writer.write(2 * FAR, room[2 * FAR : 3 * FAR])
        writer.flush()
    data = source.read_bytes()
    assert target.read_bytes() == data[:FAR] + bytes(FAR) + data[2 * FAR : 3 * FAR] + bytes(9 * FAR)


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(ReadFailed, match="cannot be opened: No such file"):
        Reader(str(tmp_path / "nothing"))
    with pytest.raises(WriteFailed, match="cannot be opened: Is a directory"):
        SlotWriter(str(tmp_path))
