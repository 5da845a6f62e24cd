# SPDX-License-Identifier: GPL-3.0-or-later
"""Pages of the kernel's ring buffer, captured from real kernels and made by hand.

tests/data/trace has, for each kind of device, the pages that the kernel gave while writes were
made at the places in `written.json`, and the formats that it gave them in.
"""

import json
import lzma
import struct
from pathlib import Path

import numpy as np
import pytest

from builder.still.events import Events, Format, parse_format, parse_pages
from core.model.blockset import BlockSet

SAMPLES = Path(__file__).parents[3] / "data" / "trace"
PAGE = 4096
FORM = Format(number=77, dev=2, sector=4, count=6)


def formats_of(sample: Path) -> dict[int, Format]:
    forms = [parse_format(path.read_text()) for path in sample.glob("*.format")]
    return {form.number: form for form in forms}


def pages_of(sample: Path) -> list[bytes]:
    data = lzma.decompress((sample / "pages.xz").read_bytes())
    return [data[at : at + PAGE] for at in range(0, len(data), PAGE)]


def ranges(found: Events) -> BlockSet:
    return BlockSet.of(np.column_stack((found[:, 1], found[:, 1] + found[:, 2])) * 512)


def event(sector: int, count: int, number: int = FORM.number, dev: int = 8 << 20) -> bytes:
    payload = struct.pack("<4HIIQI", number, 0, 0, 0, dev, 0, sector, count)
    return struct.pack("<I", len(payload) // 4 | 5 << 5) + payload


def page(*items: bytes, flags: int = 0) -> bytes:
    content = b"".join(items)
    head = struct.pack("<QQ", 123, len(content) | flags)
    return (head + content).ljust(PAGE, b"\xff")  # what is past the end is from an earlier use


@pytest.mark.parametrize("name", sorted(path.name for path in SAMPLES.iterdir()))
def test_real_pages(name: str) -> None:
    sample = SAMPLES / name
    truth = json.loads((sample / "written.json").read_text())
    found, lost = parse_pages(pages_of(sample), formats_of(sample))
    assert not lost
    assert set(found[:, 0].tolist()) == {truth["dev"][0] << 20 | truth["dev"][1]}
    written = BlockSet.of((at, at + length) for at, length in truth["written"])
    discarded = BlockSet.of([(truth["discarded"][0], sum(truth["discarded"]))])
    assert written.minus(ranges(found)).total == 0
    assert ranges(found).minus(written).minus(discarded).total == 0


def test_samples_of_both_kinds_of_devices_and_of_three_kernels() -> None:
    names = [path.name for path in SAMPLES.iterdir()]
    kernels = {
        json.loads((SAMPLES / name / "written.json").read_text())["kernel"] for name in names
    }
    assert {kernel.split(".")[1] for kernel in kernels} >= {"1", "12", "18"}
    assert any((SAMPLES / name / "block_bio_queue.format").exists() for name in names)
    assert any((SAMPLES / name / "block_rq_complete.format").exists() for name in names)


def test_events_of_every_length() -> None:
    long = b"".join(
        struct.pack("<II", 9 << 5, 4 + len(payload)) + payload
        for payload in [event(5000, 8)[4:].ljust(200, b"c")]
    )
    extend, stamp = struct.pack("<II", 30 | 7 << 5, 1), struct.pack("<II", 31 | 7 << 5, 1)
    discarded = struct.pack("<II", 29 | 3 << 5, 12) + bytes(8)
    rest = struct.pack("<I", 29) + event(666, 8)  # after the page's end nothing counts
    pages = [page(event(1, 2), extend, long, discarded, stamp, event(1 << 40, 1 << 20), rest)]
    found, lost = parse_pages(pages, {FORM.number: FORM})
    assert found.tolist() == [
        [8 << 20, 1, 2], [8 << 20, 5000, 8], [8 << 20, 1 << 40, 1 << 20]
    ]  # fmt: skip
    assert not lost


def test_what_has_no_length_or_no_place_and_other_events_are_left_out() -> None:
    nowhere = (1 << 64) - 1
    items = (event(nowhere, 0), event(nowhere, 8), event(5, 8, number=78), event(6, 8))
    pages = [page(*items), page()]
    found, _ = parse_pages(pages, {FORM.number: FORM})
    assert found.tolist() == [[8 << 20, 6, 8]]


@pytest.mark.parametrize("flags", [1 << 31, 1 << 30])
def test_a_page_that_says_that_events_are_missing(flags: int) -> None:
    found, lost = parse_pages([page(event(6, 8), flags=flags)], {FORM.number: FORM})
    assert len(found) == 1
    assert lost


def test_no_pages() -> None:
    found, lost = parse_pages([], {FORM.number: FORM})
    assert found.shape == (0, 3)
    assert not lost


def test_a_format_that_is_not_the_known_one() -> None:
    good = (SAMPLES / "loop-6.18" / "block_rq_issue.format").read_text()
    assert parse_format(good).dev == 2
    for bad in (
        good.replace("dev_t dev;\toffset:8;\tsize:4", "dev_t dev;\toffset:8;\tsize:8"),
        good.replace("nr_sector", "sectors"),
        good.replace("ID:", "Id:"),
        good.replace("sector_t sector;\toffset:16", "sector_t sector;\toffset:18"),
    ):
        with pytest.raises(ValueError, match="layout"):
            parse_format(bad)
