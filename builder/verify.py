# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the DPSR disk back and says what of it is damaged; mends what the primary still has.

Nothing is written to the disk without `repair`, not even by mounting it.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Final

from builder import trouble
from builder.change import superblock
from builder.check import fat_names, names, scan, sums, vault
from builder.check.mend import mend
from builder.copying.direct import Reader, buffer
from builder.digests.blocks import BLOCK
from builder.digests.format import Damaged
from builder.digests.store import Stack, stack_of
from builder.hiding import shown
from builder.target import Held, Target, find_target, opened
from builder.vault import chain, manifests, unlike
from builder.vault.mend import vault_unchanged
from core import settings
from core.claim import locked
from core.errors import (
    CannotCopyFileSystem,
    NotPrepared,
    NotVerified,
    ToolError,
    UnknownFormat,
)
from core.files import LOCK, lock
from core.machine.places import place_of
from core.model.blockset import BlockSet
from core.model.manifest import SlotState
from core.namespace import go_private, mounted
from core.screen import Screen, moment
from grub.state import read_state

STARTED: Final = (
    "The copy was started or written to since its backup: its digests speak of what it was before."
)
HALF: Final = "The last run on the DPSR disk was interrupted. Nothing was read."
LOST: Final = "The manifest of the backup on the DPSR disk is damaged or missing."
NONE: Final = (
    "There are no digests on the DPSR disk: an older version of dpsr made this copy, or those that "
    "there were are damaged."
)
BAD: Final = "The digests on the DPSR disk cannot be read: {reason}"
BY_UPDATE: Final = "`dpsr update --full` brings it again"
NOT_NEEDED: Final = "nothing needs it"


@dataclass(frozen=True, slots=True)
class Damage:
    """Damaged blocks of one file, or of something else that lies in a slot."""

    slot: str
    mountpoint: str
    what: str
    """The file, as the copy names it, or a word."""
    offsets: tuple[int, ...]
    """Where in the slot, in bytes; blocks of 4 KiB."""
    unreadable: int
    """How many of these could not even be read."""
    mended: int
    remedy: str
    """What helps, where not all of them were mended."""


@dataclass(frozen=True, slots=True)
class Report:
    """All that `dpsr verify` says."""

    generation: int
    taken: str
    checked: int
    """Bytes of the slots that were compared."""
    damages: tuple[Damage, ...]
    vault: tuple[str, ...]
    """What is damaged in the vault, in sentences."""
    control: tuple[str, ...]
    """Files of the control partition that differ, and what lies outside of files."""
    notes: tuple[str, ...]
    """What could not be verified, in sentences."""

    @property
    def blocks(self) -> int:
        """How many blocks of the slots are damaged, or were."""
        return sum(len(each.offsets) for each in self.damages)

    @property
    def mended(self) -> int:
        """How many of them were mended."""
        return sum(each.mended for each in self.damages)

    @property
    def is_good(self) -> bool:
        """Whether nothing was damaged when it was read."""
        return not (self.damages or self.vault or self.control)


def verify(name: str, screen: Screen, *, repair: bool = False) -> Report:
    """Read all that the backup set `name` has on its DPSR disk.

    With `repair`, what an interrupted run left is brought to an end first, and damaged blocks are
    fetched from the primary. Raises Refused, NotVerified (nothing was read), ReadFailed.
    """
    with lock(LOCK, "verify"), shown(screen, name):
        go_private()
        target = find_target(settings.load(), name)
        with (
            trouble.named(target.disk.path, target.disk.serial),
            locked(target.disk.path),
            _held(target, screen, repair=repair) as held,
        ):
            need_digests(held)
            _need_places(held, target)
            with _digests(held) as stack:
                return _Verifier(target, held, stack, screen, repair).run()


@contextmanager
def _held(target: Target, screen: Screen, *, repair: bool) -> Iterator[Held]:
    """The disk with its vault mounted; without `repair` nothing of it changes."""
    if repair:
        with opened(target, screen) as held:
            yield held
        return
    state = read_state(target.disk.path, target.known.state_offset)
    if state.state == "building":
        raise NotPrepared("The first copy on the DPSR disk was never completed.")
    if state.state != "clean":
        raise NotVerified(HALF, "`dpsr update`, or `dpsr verify --repair`, brings it to an end.")
    with vault_unchanged(target.vault) as folder:
        with chain.readable(folder):
            last = manifests.whole(folder, state.txid)
            if last is None:
                raise NotVerified(LOST)
            found = unlike.examine(folder, last, target.path)
        yield Held(state, folder, last, found)


def need_digests(held: Held) -> None:
    """Raise NotVerified when the newest manifest does not speak of what the slots hold."""
    if held.worked_on:
        raise NotVerified(STARTED, "The next `dpsr update` makes new ones.")
    if held.last.txid != held.state.txid:
        raise NotVerified(LOST)


def _need_places(held: Held, target: Target) -> None:
    """Raise NotVerified when a partition is not the slot any more whose number it has."""
    for slot in held.last.slots:
        path = target.path(slot.number)
        if place_of(path) not in {None, (slot.start, slot.size)}:
            raise NotVerified(
                f"{path} is not the slot {slot.name} any more: somebody has changed the "
                "partitions. Nothing was read.",
                "Make the disk anew with `dpsr prepare`.",
            )


@contextmanager
def _digests(held: Held) -> Iterator[Stack]:
    try:
        found = stack_of(held.vault, held.last)
    except (Damaged, UnknownFormat, OSError) as reason:
        raise NotVerified(BAD.format(reason=reason)) from None
    if found is None:
        raise NotVerified(NONE)
    with found:
        yield found


@dataclass(frozen=True, slots=True)
class _Verifier:
    target: Target
    held: Held
    stack: Stack
    screen: Screen
    repair: bool

    def run(self) -> Report:
        """The whole of it."""
        last, state = self.held.last, self.held.state
        self.screen.step(f"Reading generation {last.generation}, as it was at {moment(last.taken)}")
        damages: list[Damage] = []
        notes: list[str] = []
        checked = 0
        for slot in last.slots:
            found = self._scan(slot)
            checked += found.checked
            notes += self._notes(slot, found)
            damages += self._damages(slot, found)
        folder = self.held.vault
        with self.screen.progress("the vault", vault.size(folder)) as advance:
            in_vault = vault.damaged(folder, state, advance)
        try:
            in_control, unlisted = self._control()
        except (ToolError, OSError) as reason:  # what was found so far has to be told
            in_control, unlisted = [f"all of it, it cannot be read ({reason})"], []
        notes += [f"There are no hashes of {what} yet." for what in unlisted]
        return Report(
            last.generation, last.taken, checked, tuple(damages), tuple(in_vault),
            tuple(in_control), tuple(dict.fromkeys(notes)),
        )  # fmt: skip

    def _scan(self, slot: SlotState) -> scan.Scanned:
        if slot.name not in self.stack.slots:
            return scan.Scanned(trouble=[f"There are no digests of {slot.mountpoint} yet."])
        total = scan.covered_bytes(self.stack, slot.name)
        with self.screen.progress(slot.name, total) as advance:
            return scan.scan(
                self.target.path(slot.number), slot.size, self.stack, slot.name, advance
            )

    def _notes(self, slot: SlotState, found: scan.Scanned) -> Iterator[str]:
        yield from found.trouble
        if found.more:
            yield (
                f"{found.more} more blocks of {slot.mountpoint} are damaged, which are not listed: "
                f"{BY_UPDATE}."
            )
        if found.unknown:
            yield (
                f"{found.unknown >> 20} MiB of {slot.mountpoint} could not be verified: their "
                "digests are damaged."
            )

    def _damages(self, slot: SlotState, found: scan.Scanned) -> Iterator[Damage]:
        if not found.wrong:
            return
        device = self.target.path(slot.number)
        named = _owners(slot, device, sorted(found.wrong))
        mended = self._mend(slot, device, found)
        fixups = BlockSet.of(
            pair for one in self.held.last.fixups if one.slot == slot.name for pair in one.ranges
        )
        by_owner: dict[str, list[int]] = {}
        for block in sorted(found.wrong):
            by_owner.setdefault(named.get(block, f"block {block}"), []).append(block)
        for what, blocks in by_owner.items():
            offsets = tuple(block * BLOCK for block in blocks)
            fixed = bool(BlockSet.of((at, at + BLOCK) for at in offsets).intersect(fixups))
            yield Damage(
                slot.name, slot.mountpoint, what, offsets,
                len(found.unreadable.intersection(blocks)),
                len(mended.intersection(blocks)),
                self._remedy(what, fixed=fixed),
            )  # fmt: skip

    def _remedy(self, what: str, *, fixed: bool) -> str:
        if what == names.FREE:
            return NOT_NEEDED
        why = "it was made for the copy" if fixed else "the primary has something else there by now"
        return f"{why}: {BY_UPDATE}" if self.repair else BY_UPDATE

    def _mend(self, slot: SlotState, device: str, found: scan.Scanned) -> set[int]:
        mount = self.target.machine.mount_at(slot.mountpoint)
        if not self.repair or mount is None or slot.fstype == "vfat":
            return set()  # a FAT slot is a file system of its own: its blocks lie elsewhere there
        return mend(mount.source, device, slot.size, found.wrong)

    def _control(self) -> tuple[list[str], list[str]]:
        outside = sums.raw_of(self.target.disk)
        with mounted(self.target.control, "control", "ro", fstype="vfat") as control:
            return sums.check(control, outside)


def _owners(slot: SlotState, device: str, blocks: Sequence[int]) -> dict[int, str]:
    """What each block belongs to, as people call it on the copy."""
    places = [block * BLOCK for block in blocks]
    if slot.fstype == "vfat":
        return _by_block(slot, fat_names.owners(device, places))
    if slot.fstype != "ext4":
        return {}
    try:
        shape = _shape(device)
    except CannotCopyFileSystem:
        return {}
    known = _by_block(slot, names.owners(device, shape.block, places))
    heads = {start // BLOCK for start, _ in superblock.identity_blocks(shape)}
    return known | {block: "superblock" for block in blocks if block in heads}


def _by_block(slot: SlotState, found: Mapping[int, tuple[str, ...]]) -> dict[int, str]:
    return {at // BLOCK: _called(slot, owner) for at, owner in found.items()}


def _called(slot: SlotState, owner: tuple[str, ...]) -> str:
    top = slot.mountpoint.rstrip("/")
    return ", ".join(f"{top}{each}" if each.startswith("/") else each for each in owner)


def _shape(device: str) -> superblock.Superblock:
    with closing(Reader(device)) as reader:
        view = buffer(BLOCK)
        reader.read_into(0, view)
    return superblock.parse(bytes(view[superblock.AT :][: superblock.SIZE]), device)
