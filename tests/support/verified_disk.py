# SPDX-License-Identifier: GPL-3.0-or-later
"""A slot with a real ext4 in it, the volume that it was copied from, and their digests."""

import dataclasses
import os
import random
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final
from unittest import mock

from builder import verify
from builder.copying.direct import Reader, SlotWriter
from builder.digests.keeper import Keeper, Wanted
from builder.target import Held
from builder.vault import fingerprint, manifests, unlike
from builder.vault.undoformat import LogSlot
from builder.verify import Report
from core.model.blockset import BlockSet
from core.model.copy import Fixups
from core.model.manifest import Manifest, SlotState
from core.model.state import State
from core.run import run
from tests.support.vault_disk import Silent, manifest_of, put

SIZE: Final = 24 << 20
BLOCK: Final = 4096
NUMBER: Final = 3
TXID: Final = f"{7:032x}"
FIXED: Final = "/etc/fstab"
"""A file that differs on the copy on purpose."""


@dataclass
class Disk:
    """Files in the place of a DPSR disk."""

    folder: Path
    block: int
    """Of the file system."""

    @property
    def slot(self) -> Path:
        return self.folder / "slot"

    @property
    def volume(self) -> Path:
        return self.folder / "volume"

    @property
    def vault(self) -> Path:
        return self.folder / "vault"

    @property
    def manifest(self) -> Manifest:
        return manifests.read(self.vault, TXID)

    def place(self, name: str, number: int = 0) -> int:
        """Where block `number` of a file is in the slot, in bytes, says debugfs."""
        said = run("debugfs", "-R", f"bmap {name} {number}", str(self.slot)).split()
        return int(said[-1]) * self.block

    def flip(self, at: int, image: Path | None = None) -> None:
        """One bit."""
        with (image or self.slot).open("r+b") as stream:
            stream.seek(at)
            byte = stream.read(1)[0]
            stream.seek(at)
            stream.write(bytes([byte ^ 0x10]))

    def verify(self, *, repair: bool = False, booted: bool = False) -> Report:
        """What the command finds, but for the control partition, which no file can stand for."""
        state = State(
            "clean", gen=1, taken="2026-11-22T18:00:00+00:00", txid=TXID, slot="1234-ABCD",
            booted=booted,
        )  # fmt: skip
        target: Any = SimpleNamespace(
            path=lambda _number: str(self.slot),
            machine=SimpleNamespace(
                mount_at=lambda _place: SimpleNamespace(source=str(self.volume))
            ),
        )
        last = self.manifest
        held = Held(state, self.vault, last, unlike.examine(self.vault, last, target.path))
        verify.need_digests(held)
        with (
            mock.patch.object(verify._Verifier, "_control", return_value=([], [])),
            verify._digests(held) as stack,
        ):
            return verify._Verifier(target, held, stack, Silent(), repair).run()


def make(folder: Path, block: int = 4096) -> Disk:
    """Generation 1: the volume with another UUID and another fstab."""
    disk = Disk(folder, block)
    tree = folder / "tree"
    dice = random.Random(1)
    for name, size in (("etc/fstab", 100), ("srv/large", 900_000), ("srv/small", 3000)):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(dice.randbytes(size))
    os.link(tree / "srv/small", tree / "srv/other name")
    with disk.volume.open("wb") as stream:
        stream.truncate(SIZE)
    run(
        "mke2fs", "-q", "-F", "-t", "ext4", "-b", str(block), "-d", str(tree), "-E",
        "lazy_itable_init=0,lazy_journal_init=0", str(disk.volume),
    )  # fmt: skip
    disk.vault.mkdir()
    content = disk.volume.read_bytes()
    disk.slot.write_bytes(content)
    run("tune2fs", "-O", "metadata_csum_seed", "-U", "random", str(disk.slot))
    with disk.slot.open("r+b") as stream:
        stream.seek(disk.place(FIXED))
        stream.write(b"UUID=other / ext4\n")
    final = disk.slot.read_bytes()
    slots = (LogSlot("root", NUMBER, 1 << 20, SIZE),)
    first = manifest_of(1, TXID)
    with ExitStack() as stack:
        keeper = stack.enter_context(closing(Keeper(disk.vault, slots)))
        writer = keeper.writers({"root": stack.enter_context(closing(SlotWriter(str(disk.slot))))})
        for at in range(0, SIZE, 1 << 20):
            put(writer["root"], at, content[at : at + (1 << 20)])
        for at in range(0, SIZE, BLOCK):
            if final[at : at + BLOCK] != content[at : at + BLOCK]:
                put(writer["root"], at, final[at : at + BLOCK])
        wanted = {"root": Wanted(BlockSet.of([(0, SIZE)]))}
        files = keeper.write(TXID, first.disk_guid, wanted, lambda _: str(disk.slot))
        reader = stack.enter_context(closing(Reader(str(disk.slot))))
        state = SlotState("root", "/", "ext4", NUMBER, 1 << 20, SIZE, *fingerprint.of_ext4(reader))
    at = disk.place(FIXED)
    fixups = (Fixups("root", ((at - at % BLOCK, at - at % BLOCK + BLOCK),), (FIXED,)),)
    manifests.write(
        disk.vault, dataclasses.replace(first, slots=(state,), fixups=fixups, digests=files)
    )
    return disk


def offsets(report: Report) -> Iterator[int]:
    """All damaged blocks."""
    for each in report.damages:
        yield from each.offsets
