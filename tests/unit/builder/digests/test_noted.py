# SPDX-License-Identifier: GPL-3.0-or-later
"""What is noted last counts, whatever goes through a file; blocks known in part are told."""

import random
from contextlib import closing
from pathlib import Path

import pytest

from builder.digests import noted
from builder.digests.blocks import BLOCK, WINDOW, digest
from builder.digests.noted import Noted
from core.model.blockset import BlockSet

SIZE = 5 * WINDOW * BLOCK


def block(content: int) -> bytes:
    return bytes([content]) * BLOCK


@pytest.mark.parametrize("lot", [7, 64, 4096])
def test_the_last_one_counts(tmp_path: Path, lot: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noted, "LOT", lot)
    dice = random.Random(lot)
    wanted: dict[tuple[int, int], int] = {}
    with closing(Noted(tmp_path)) as gathered:
        for _ in range(300):
            slot, first = dice.randrange(2), dice.choice((0, WINDOW - 3, 3 * WINDOW))
            first += dice.randrange(20)
            contents = [dice.randrange(256) for _ in range(dice.randrange(1, 6))]
            view = memoryview(b"".join(map(block, contents)))
            gathered.add(slot, first * BLOCK, view, SIZE)
            for number, content in enumerate(contents, first):
                wanted[slot, number] = digest(block(content))
        gathered.settle()
        found = {
            (slot, int(number)): int(value)
            for slot in (0, 1)
            for window in gathered.windows(slot)
            for number, value in zip(*gathered.window(slot, window), strict=True)
        }
        assert found == wanted
        assert not gathered.unsure(0)
    assert list(tmp_path.iterdir()) == []


def test_parts_of_blocks(tmp_path: Path) -> None:
    with closing(Noted(tmp_path)) as gathered:
        gathered.add(0, 1024, memoryview(bytes(3 * BLOCK)), SIZE)
        gathered.add(0, 9 * BLOCK, memoryview(bytes(512)), SIZE)
        gathered.settle()
        assert gathered.window(0, 0).blocks.tolist() == [1, 2]
        assert gathered.unsure(0) == BlockSet.of([(0, 1), (3, 4), (9, 10)])


def test_a_slot_may_end_within_a_block(tmp_path: Path) -> None:
    with closing(Noted(tmp_path)) as gathered:
        gathered.add(0, BLOCK, memoryview(bytes(BLOCK + 512)), 2 * BLOCK + 512)
        gathered.settle()
        found = gathered.window(0, 0)
        assert found.blocks.tolist() == [1, 2]
        assert found.digests.tolist() == [digest(bytes(BLOCK)), digest(bytes(512))]
        assert not gathered.unsure(0)
