# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of digests are read back as written, also by the oracle; any damage is seen."""

import random
from contextlib import closing
from pathlib import Path
from typing import Final

import numpy as np
import pytest

from builder.digests import format as form
from builder.digests.blocks import WINDOW, Digested
from builder.digests.format import Damaged, Header
from builder.digests.store import Stored
from builder.vault.undoformat import LogSlot
from core.errors import UnknownFormat
from core.model.blockset import BlockSet
from core.model.manifest import DigestFile
from tests.support import digest_oracle

SAMPLE: Final = Path(__file__).parents[3] / "data" / "formats" / "digests-v1.bin"
TXID: Final = "00112233445566778899aabbccddeeff"
HEADER: Final = Header(
    TXID, "11111111-2222-3333-4444-555555555555",
    (LogSlot("root", 3, 1 << 20, 3 << 30), LogSlot("home", 4, 4 << 30, 1 << 30)),
)  # fmt: skip
SECTIONS: Final = (
    (0, 0, ((0, 4), (10, 12)), (1, 2, 11)),
    (0, 2, ((2 * WINDOW, 2 * WINDOW + 3),), (2 * WINDOW + 2,)),
    (1, 0, ((7, 9),), ()),
)
"""Slot, window, ranges covered, blocks with a digest; counted in blocks."""


def value(block: int) -> int:
    return block * 0x0123456789ABCDEF % (1 << 64)


def sample() -> bytes:
    seed = form.seed(TXID)
    parts = [form.encode_header(HEADER)]
    for slot, window, covered, blocks in SECTIONS:
        fresh = Digested(
            np.array(blocks, np.int64), np.array([value(block) for block in blocks], np.uint64)
        )
        parts += form.encode_section(slot, window, BlockSet.of(covered), fresh, seed)
    return b"".join([*parts, form.encode_seal(seed)])


def stored(folder: Path, data: bytes) -> Stored:
    (folder / "it.bin").write_bytes(data)
    return Stored(folder, DigestFile("it.bin", digest_oracle.read(sample()).hash))


def test_the_sample_stays_readable() -> None:
    data = SAMPLE.read_bytes()
    assert data == sample()
    seen = digest_oracle.read(data)
    assert seen.covered == {
        "root": {0, 1, 2, 3, 10, 11, *range(2 * WINDOW, 2 * WINDOW + 3)}, "home": {7, 8}
    }  # fmt: skip
    blocks = (1, 2, 11, 2 * WINDOW + 2)
    assert seen.digests == {"root": {block: value(block) for block in blocks}, "home": {}}


def test_read_back_as_written(tmp_path: Path) -> None:
    names = [slot.name for slot in HEADER.slots]
    with closing(stored(tmp_path, sample())) as file:
        assert file.slots == ("root", "home")
        assert file.windows("root") == {0, 2}
        assert file.count == 4
        for slot, window, covered, blocks in SECTIONS:
            assert file.covered(names[slot], window) == BlockSet.of(covered)
            found = file.window(names[slot], window)
            assert found.blocks.tolist() == list(blocks)
            assert found.digests.tolist() == [value(block) for block in blocks]
        assert not file.covered("root", 1)
        assert not len(file.window("root", 1).blocks)


def everything(file: Stored) -> None:
    with closing(file):
        for slot in file.slots:
            for window in file.windows(slot):
                file.covered(slot, window)
                file.window(slot, window)


def test_any_bit_that_flips_is_seen(tmp_path: Path) -> None:
    data = sample()
    dice = random.Random(1)
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= 1 << dice.randrange(8)
        with pytest.raises((Damaged, UnknownFormat)):
            everything(stored(tmp_path, bytes(changed)))


def test_any_end_that_is_missing_is_seen(tmp_path: Path) -> None:
    data = sample()
    for size in range(0, len(data), 7):
        with pytest.raises(Damaged):
            everything(stored(tmp_path, data[:size]))


def test_another_version_is_refused(tmp_path: Path) -> None:
    data = bytearray(sample())
    data[8] = 2
    with pytest.raises(UnknownFormat):
        stored(tmp_path, bytes(data))
