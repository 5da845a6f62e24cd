# SPDX-License-Identifier: GPL-3.0-or-later
"""The load of the tests in guests: its check finds whatever was not one instant."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import load


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("load")
    writer = load.Writer([base / "a", base / "b"])
    for data in writer.data:
        data.execute("pragma synchronous=off")
    for _ in range(5):
        writer.round()
    for data in writer.data:
        data.close()
    return base


def change(path: Path, at: int, content: bytes) -> None:
    data = bytearray(path.read_bytes())
    data[at : at + len(content)] = content
    path.write_bytes(data)


def forget_rows(base: Path) -> None:
    data = load.database(base / "a", "delete")
    with data:
        data.execute("delete from t where n = 5")
    data.close()


def test_what_was_written_in_order_passes(written: Path) -> None:
    found = load.check([written / "a", written / "b"])
    assert found == {"round": 5, "whole_files": 5, "volumes": 2}


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda base: change(base / "a/sequence", 0, b"%012d" % 4), "later writes"),
        (lambda base: change(base / "b/sequence", 0, b"%012d" % 4), "later writes"),
        (lambda base: change(base / "a/sequence", 0, b"%012d" % 7), "more than one round"),
        (lambda base: change(base / "a/log", 20, b"?"), "of the log is"),
        (lambda base: change(base / "a/mapped", 9 * 4096 + 72 + 7, b"\4"), "later writes"),
        (lambda base: next(base.glob("a/whole-5-*")).write_bytes(b"."), "not what it was"),
        (lambda base: next(base.glob("a/whole-5-*")).unlink(), "later writes"),
        (lambda base: change(base / "a/delete.db", 4096 + 8, bytes(64)), "delete.db"),
        (forget_rows, "half a transaction"),
    ],
)
def test_what_never_was_at_one_moment_is_found(
    written: Path, tmp_path: Path, spoil: Callable[[Path], None], said: str
) -> None:
    base = tmp_path / "copy"
    shutil.copytree(written, base, symlinks=True)
    spoil(base)
    with pytest.raises(AssertionError, match=said):
        load.check([base / "a", base / "b"])
