# SPDX-License-Identifier: GPL-3.0-or-later
"""A small DPSR disk made of files: two slots, a state sector, a folder as the vault."""

import dataclasses
import random
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Final

from builder.copying.direct import Writer, buffer
from builder.digests.keeper import Keeper, Wanted
from builder.digests.store import stack_of
from builder.vault import manifests
from builder.vault.recovery import finish, roll_back
from builder.vault.transaction import Transaction
from builder.vault.undoformat import LogSlot
from core.model.blockset import EMPTY, BlockSet
from core.model.figures import RunFigures
from core.model.manifest import Manifest
from core.model.state import State
from core.screen import PlainScreen
from grub.state import pack, read_state, write_state

BLOCK: Final = 4096
BLOCKS: Final = 24
SIZE: Final = BLOCKS * BLOCK
STATE_AT: Final = 8192
NAMES: Final = ("root", "home")
SLOTS: Final = tuple(
    LogSlot(name, number, number << 20, SIZE) for number, name in enumerate(NAMES, 3)
)
IDENTITY: Final = {
    "root": BlockSet.of([(0, BLOCK), (10 * BLOCK, 11 * BLOCK)]),
    "home": BlockSet.of([(0, BLOCK)]),
}
EVERYTHING: Final = {name: Wanted(EMPTY, BlockSet.of([(0, SIZE)])) for name in NAMES}
"""What the digests of an update cover."""
GUID: Final = "11111111-2222-3333-4444-555555555555"
FIGURES: Final = RunFigures(1.0, 1, 1, 1, 0.1, "compare")

Content = dict[str, bytes]
"""What each slot holds, by name."""


class Silent(PlainScreen):
    """Keeps what was said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def _line(self, text: str) -> None:  # type: ignore[override]
        self.said.append(text)


def manifest_of(gen: int, txid: str = "0" * 32) -> Manifest:
    """A manifest, as far as the caller of a transaction makes it."""
    return Manifest(
        "system", txid, gen, "", "", f"2026-11-22T18:00:{gen % 60:02}+00:00", "server",
        "6.12.0-1-amd64", GUID, (), (), (), FIGURES,
    )  # fmt: skip


def next_content(content: Content, seed: int, blocks: int = 8) -> Content:
    """Other identities, and `blocks` other blocks in each slot."""
    dice = random.Random(seed)
    after = {}
    for name, data in content.items():
        new = bytearray(data)
        changed = [at // BLOCK for start, end in IDENTITY[name] for at in range(start, end, BLOCK)]
        changed += dice.sample([at for at in range(BLOCKS) if at not in changed], blocks)
        for at in changed:
            new[at * BLOCK : (at + 1) * BLOCK] = dice.randbytes(BLOCK)
        after[name] = bytes(new)
    return after


class VaultDisk:
    """The files, and the operations of a run on them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.vault = folder / "vault"
        self.disk = folder / "disk"
        self.screen = Silent()

    @classmethod
    def make(cls, folder: Path, seed: int = 1) -> "VaultDisk":
        """Generation 1, `clean`."""
        folder.mkdir(exist_ok=True, parents=True)
        made = cls(folder)
        made.vault.mkdir()
        dice = random.Random(seed)
        for slot in SLOTS:
            Path(made.slot_path(slot.number)).write_bytes(dice.randbytes(SIZE))
        first = manifest_of(1, f"{1:032x}")
        manifests.write(made.vault, first)
        state = State("clean", gen=1, taken=first.taken, txid=first.txid, slot="1234-ABCD")
        made.disk.write_bytes(bytes(STATE_AT) + pack(state) + bytes(4096))
        return made

    def slot_path(self, number: int) -> str:
        return str(self.folder / f"slot{number}")

    @property
    def state(self) -> State:
        return read_state(str(self.disk), STATE_AT)

    def say(self, **changes: object) -> None:
        """Change the state sector, as GRUB does with `booted`."""
        write_state(str(self.disk), STATE_AT, dataclasses.replace(self.state, **changes))  # type: ignore[arg-type]

    @contextmanager
    def keeper(self, before: bool = True) -> Iterator[Keeper]:
        """Who keeps the digests in an update."""
        last = manifests.read(self.vault, self.state.txid)
        with ExitStack() as stack:
            found = stack_of(self.vault, last) if before else None
            if found is not None:
                stack.enter_context(found)
            yield stack.enter_context(closing(Keeper(self.vault, SLOTS, found)))

    @property
    def content(self) -> Content:
        return {slot.name: Path(self.slot_path(slot.number)).read_bytes() for slot in SLOTS}

    def transaction(self, **changes: object) -> Transaction:
        state = self.state
        known = {
            "name": "system", "disk_guid": GUID, "slots": SLOTS, "slot_path": self.slot_path,
            "screen": self.screen, "identity": IDENTITY,
        }  # fmt: skip
        return Transaction(
            str(self.disk), STATE_AT, self.vault, state, manifests.read(self.vault, state.txid),
            **(known | changes),  # type: ignore[arg-type]
        )  # fmt: skip

    def update(self, after: Content, **changes: object) -> Manifest:
        """One update, as the flow does it."""
        before = self.content
        with (
            self.keeper(before=bool(changes.get("chained", True))) as keeper,
            self.transaction(digests=keeper, **changes) as transaction,
        ):
            writers = transaction.begin(100_000)
            write_content(writers, before, after)
            return transaction.commit(manifest_of(self.state.gen + 1), EVERYTHING)

    def recover(self) -> State:
        return finish(str(self.disk), STATE_AT, self.vault, self.slot_path, self.screen)

    def roll_back(self, to: int) -> State:
        return roll_back(
            str(self.disk), STATE_AT, self.vault, self.state, to, self.slot_path, self.screen
        )

    def files(self) -> set[str]:
        return {path.name for path in self.vault.iterdir()}


def write_content(writers: dict[str, Writer], before: Content, after: Content) -> None:
    """Data that differs in all slots, then the identities, as DESIGN wants it."""
    for name, new in after.items():
        identity = IDENTITY[name]
        for at in range(0, len(new), BLOCK):
            if new[at : at + BLOCK] == before[name][at : at + BLOCK]:
                continue
            if not BlockSet.of([(at, at + BLOCK)]).intersect(identity):
                put(writers[name], at, new[at : at + BLOCK])
    for writer in writers.values():
        writer.flush()
    for name, new in after.items():
        for start, end in IDENTITY[name]:
            put(writers[name], start, new[start:end])
        writers[name].flush()


def put(writer: Writer, offset: int, content: bytes) -> None:
    view = buffer(len(content))
    view[:] = content
    writer.write(offset, view)
    view[:] = bytes(len(content))  # it belongs to the caller again


@contextmanager
def no_change(disk: VaultDisk) -> Iterator[None]:
    """Whatever happens in the block, the disk is as before it."""
    before, state = disk.content, disk.state
    yield
    assert disk.state == state
    assert disk.content == before


def broken_update(disk: VaultDisk, error: BaseException, **changes: object) -> None:
    """It fails when all is written and nothing committed."""
    before = disk.content
    with disk.transaction(**changes) as running:
        write_content(running.begin(SIZE), before, next_content(before, 2))
        raise error
