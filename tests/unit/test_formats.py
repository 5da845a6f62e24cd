# SPDX-License-Identifier: GPL-3.0-or-later
"""One sample of every version of every format stays in tests/data/formats, and is read here.

A sample that nobody reads fails, and so does a format or a version in the code without a sample.
"""

import ast
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from builder.digests import format as digests
from builder.fixup import marker
from builder.vault import manifests, undoformat
from builder.vault.undoread import UndoLog
from core import hidden, record, settings
from core.model import manifest, state
from grub.state import parse
from recovery import found_order
from tests.support.data import DATA
from tests.unit.test_layers import ROOMS, ROOT

FORMATS: Final = DATA / "formats"
SAMPLES: Final = sorted(FORMATS.iterdir())
Read = Callable[[Path], object]


def _undo(path: Path) -> object:
    with UndoLog(path) as log:
        return log.header.txid, [log.content(found) for found in log.records(need_seal=True)]


def _record(path: Path) -> object:
    """It is found by its set's name alone."""
    known = record.read_record(path.stem, path.parent)
    assert known is not None
    return known.name, known.counters


def _hidden(path: Path) -> object:
    """By the set's name, for the disk with this GUID."""
    known = settings.load(FORMATS / "settings-v1.toml").sets[0]
    gone = hidden.from_text(path.read_bytes(), known.guid)
    assert gone is not None
    assert gone.state is not None
    return gone.way.say, gone.state.taken


def _elsewhere(path: Path) -> object:
    """Its own tests name it, and read more of it than could be done here."""
    return [
        each for each in (ROOT / "tests").rglob("test_*.py") if path.name in each.read_text("utf-8")
    ]


READERS: Final[dict[str, tuple[int, Read]]] = {
    "state": (state.FORMAT, lambda path: parse(path.read_bytes()).taken),
    "manifest": (
        manifest.VERSION, lambda path: manifests.decode(path.read_bytes(), path.name).slots,
    ),
    "undo": (undoformat.VERSION, _undo),
    "copy": (marker.VERSION, lambda path: marker.load(path.read_bytes()).pairs),
    "digests": (digests.VERSION, _elsewhere),
    "sums": (1, _elsewhere),
    "hidden": (hidden.VERSION, _hidden),
    "boot-order": (found_order.VERSION, _elsewhere),
    # On the primary; these two carry no version: a key that is new has a default.
    "record": (1, _record),
    "settings": (1, lambda path: settings.load(path).sets),
}  # fmt: skip
"""By the sample's name: the newest version, and what reads each of them."""

PLACES: Final = {
    "core/model/state.py": "state",
    "core/hidden.py": "hidden",
    "core/model/manifest.py": "manifest",
    "builder/vault/undoformat.py": "undo",
    "builder/digests/format.py": "digests",
    "builder/fixup/marker.py": "copy",
    "recovery/found_order.py": "boot-order",
    "builder/fixup/cow.py": "",  # the kernel's own (dm-snapshot), and in memory only
}
"""Modules that say which version of a format they write."""


def named(path: Path) -> tuple[str, int]:
    found = re.fullmatch(r"([a-z-]+)-v(\d+)(\.[a-z]+)?", path.name)
    assert found, f"{path.name} is no name of a sample"
    return found[1], int(found[2])


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_every_sample_is_read(path: Path) -> None:
    name, version = named(path)
    newest, read = READERS[name]
    assert 1 <= version <= newest
    assert read(path)


@pytest.mark.parametrize("name", READERS)
def test_every_version_has_its_sample(name: str) -> None:
    newest, _ = READERS[name]
    assert {version for kind, version in map(named, SAMPLES) if kind == name} == set(
        range(1, newest + 1)
    )


def versions(source: str) -> list[str]:
    """Numbers that a module gives the name of a format's version."""
    return [
        target.id
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, int)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name) and re.search(r"(VERSION|FORMAT)$", target.id)
    ]


def test_every_format_of_the_code_is_known_here() -> None:
    found = {
        str(path.relative_to(ROOT))
        for room in ROOMS
        for path in sorted((ROOT / room).rglob("*.py"))
        if versions(path.read_text("utf-8"))
    }
    assert found == set(PLACES)
    assert {name for name in PLACES.values() if name} <= set(READERS)
    assert versions("_NEW_FORMAT: Final = 3\nOLD_VERSION = 1\nVERSION = 'x'") == [
        "_NEW_FORMAT", "OLD_VERSION",
    ]  # fmt: skip
