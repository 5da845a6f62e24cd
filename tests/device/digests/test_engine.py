# SPDX-License-Identifier: GPL-3.0-or-later
"""The digests of backups of a mounted file system are those of what the slot holds.

An oracle of its own reads files and slot, one block after the other.
"""

import dataclasses
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final

import numpy as np
import pytest

from builder.copying.direct import SlotWriter
from builder.digests import noted
from builder.digests.keeper import Keeper, Wanted
from builder.digests.store import stack_of
from builder.vault.undoformat import LogSlot
from core.model.blockset import BlockSet
from core.model.manifest import Manifest
from tests.support import digest_oracle
from tests.support.block import MIB
from tests.support.ext4_pair import grown
from tests.support.live_pair import disturbed
from tests.support.update_pair import Pair
from tests.support.vault_disk import manifest_of, put

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="loop devices need root")
NOW: Final = ["-O", "metadata_csum_seed,orphan_file,64bit", "-E", "lazy_itable_init=0"]
SIZE: Final = 48 * MIB
BLOCK: Final = digest_oracle.BLOCK


@pytest.fixture
def folder() -> Iterator[Path]:
    home = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="dpsr-", dir=home if home.is_dir() else None) as name:
        yield Path(name)


class Kept(Pair):
    """A pair with digests."""

    manifest: Manifest | None = None

    def backup(self, *, first: bool = False, full: bool = False) -> None:
        """A backup that keeps digests; the oracle must find them right."""
        with ExitStack() as stack:
            before = stack_of(self.volume.parent, self.manifest) if self.manifest else None
            if before is not None:
                stack.enter_context(before)
            slots = (LogSlot("root", 3, 0, self.volume.stat().st_size),)
            keeper = stack.enter_context(closing(Keeper(self.volume.parent, slots, before)))
            self.keeper = keeper
            if first:
                self.prepare()
            else:
                self.update(full=full)
            assert self.last is not None
            # What the pair wrote behind the keeper's back is none of its business.
            assert self.kept is not None
            own = BlockSet.of(self.kept.identity).aligned(BLOCK).union(self.fixed.aligned(BLOCK))
            used = self.last.used["root"].minus(own)
            number = self.manifest.generation + 1 if self.manifest else 1
            made = manifest_of(number, f"{number:032x}")
            files = keeper.write(
                made.txid, made.disk_guid, {"root": Wanted(used)}, lambda _: str(self.slot)
            )
            self.manifest = dataclasses.replace(made, digests=files)
        known = self.known()
        content = self.slot.read_bytes()
        self.wrong = digest_oracle.wrong(known, content)
        assert self.wrong == []
        block = self.kept.block
        wanted = {int(n) * block // BLOCK for n in np.flatnonzero(self.kept.used)}
        wanted -= {at // BLOCK for start, end in own for at in range(start, end, BLOCK)}
        self.missing = wanted - known.keys()
        """In use, and nobody vouches for it."""

    def known(self) -> dict[int, int]:
        assert self.manifest is not None
        return digest_oracle.digests(self.volume.parent, self.manifest)["root"]


def files(top: Path, count: int, size: int) -> None:
    for number in range(count):
        (top / f"{number}").write_bytes(os.urandom(size))


@pytest.mark.parametrize("options", [NOW, ["-b", "1024"]], ids=["4 KiB", "1 KiB"])
def test_every_used_block_has_one(folder: Path, options: list[str]) -> None:
    with Kept(folder, SIZE, options) as pair:
        files(pair.top, 30, MIB // 2)
        pair.backup(first=True)
        assert pair.missing == set()
        before = pair.known()
        files(pair.top, 8, 300_000)
        for number in range(20, 25):
            (pair.top / f"{number}").unlink()
        pair.backup()
        assert pair.missing == set()
        assert before.keys() - pair.known().keys(), "what went out of use was kept"
        os.rename(pair.top / "0", pair.top / "moved")
        pair.backup(full=True)
        assert pair.missing == set()


def test_they_are_made_where_there_were_none(folder: Path) -> None:
    """Nothing is written but what differs; all else is hashed while it is compared."""
    with Kept(folder, SIZE, NOW) as pair:
        files(pair.top, 30, MIB // 2)
        pair.prepare()
        files(pair.top, 2, 100_000)
        pair.backup(full=True)
        assert pair.missing == set()
        assert pair.written is not None
        assert pair.written.total < SIZE // 4


@pytest.mark.parametrize("seed", [1])
def test_while_files_change(folder: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With little memory, so that most goes through a file; reserved blocks may have none."""
    monkeypatch.setattr(noted, "LOT", 1000)
    with Kept(folder, SIZE, NOW) as pair, closing(grown(pair, seed, 60)) as churn:
        pair.backup(first=True)
        for number in range(2):
            churn.work(30)
            with disturbed(pair.top / "busy", 10 * seed + number):
                pair.backup()
        assert len(pair.known()) > 1000


def test_a_small_file_is_taken_into_the_next(folder: Path) -> None:
    with Kept(folder, SIZE, NOW) as pair:
        files(pair.top, 30, MIB)
        pair.backup(first=True)
        counts = []
        for number in range(4):
            (pair.top / f"{number}").write_bytes(os.urandom(50_000))
            pair.backup()
            assert pair.manifest is not None
            counts.append(len(pair.manifest.digests))
        assert max(counts) <= 3
        files(pair.top, 30, MIB)
        pair.backup()
        assert pair.manifest is not None
        assert len(pair.manifest.digests) == 1, "as large as all before: one file again"


def test_the_oracle_sees_a_block_that_is_not_noted(folder: Path) -> None:
    with Kept(folder, SIZE, NOW) as pair:
        files(pair.top, 30, MIB // 2)
        pair.backup(first=True)
        at = max(pair.known()) * BLOCK
        with closing(SlotWriter(str(pair.slot))) as writer:
            put(writer, at, bytes(BLOCK))
            put(writer, at, os.urandom(BLOCK))
        assert digest_oracle.wrong(pair.known(), pair.slot.read_bytes()) == [at // BLOCK]
