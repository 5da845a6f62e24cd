# SPDX-License-Identifier: GPL-3.0-or-later
"""What is built once."""

import os
import threading
import time
from pathlib import Path

import pytest

from images import cache


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DPSR_CACHE", str(tmp_path / "cache"))
    return cache.folder()


def test_the_cache_is_where_the_user_keeps_caches(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("DPSR_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.folder() == tmp_path.resolve() / "dpsr"


def test_a_thing_is_built_once() -> None:
    times = []

    def build(path: Path) -> None:
        times.append(1)
        (path / "it").write_text("here")

    for _ in range(2):
        assert (cache.built("kind", "key", build) / "it").read_text() == "here"
    assert len(times) == 1


def test_of_two_who_ask_at_once_one_builds() -> None:
    times = []

    def build(_: Path) -> None:
        times.append(1)
        time.sleep(0.1)

    threads = [threading.Thread(target=cache.built, args=("kind", "key", build)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(times) == 1


def test_a_build_that_fails_leaves_nothing(folder: Path) -> None:
    def build(path: Path) -> None:
        (path / "half").touch()
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        cache.built("kind", "key", build)
    assert [path.name for path in (folder / "kind").iterdir()] == ["key.lock"]


def test_a_scratch_folder_goes_with_its_user(folder: Path) -> None:
    with cache.scratch() as path:
        (path / "overlay").touch()
    assert not path.exists()


def test_what_a_killed_process_left_is_removed_and_nothing_else(folder: Path) -> None:
    gone, alive = folder / "guests/4194999-x", folder / f"guests/{os.getppid()}-x"
    for path in (gone, alive):
        path.mkdir(parents=True)
    with cache.scratch():
        assert not gone.exists()
        assert alive.exists()


def test_only_what_nobody_used_for_long_is_pruned(folder: Path) -> None:
    for key in ("old", "new"):
        cache.built("kind", key, lambda path: None)
    long_ago = time.time() - 3 * 86400
    for name in ("old", "old.lock"):
        os.utime(folder / "kind" / name, (long_ago, long_ago))
    cache.prune("kind", days=2)
    left = {path.name for path in (folder / "kind").iterdir()}
    assert "old" not in left
    assert {"new", "new.lock"} <= left
