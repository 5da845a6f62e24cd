# SPDX-License-Identifier: GPL-3.0-or-later
"""One update of the DPSR disk: it happens as a whole or not at all.

The undo log is on the disk before the state sector says `updating`, and old content before it is
overwritten; the state sector, written last, makes the new generation valid. Whatever ends the
block before that takes the slots back at once, or leaves it to `recover`.
"""

import dataclasses
import errno
import os
import secrets
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Final, Self

from builder.copying.direct import Writer
from builder.copying.undo import Undo
from builder.digests.keeper import Keeper, Wanted
from builder.vault import chain, manifests, undolog
from builder.vault.replay import SlotPath, replay
from builder.vault.undoformat import Header, LogSlot
from builder.vault.undolog import LogFile, NoRoom
from builder.vault.undoread import UndoLog
from core import points
from core.errors import CopyDiffers, StateUnreadable, ToolError, VaultFull, WriteFailed
from core.errors.system import reason_of
from core.model.blockset import BlockSet
from core.model.manifest import DigestFile, Manifest
from core.model.state import State
from core.screen import Screen, human, moment
from core.signals import Ended, deferred
from grub.state import read_state, write_state

_BEST_RATIO: Final = 8
"""No ordinary data gets smaller than this by compression, taken all together."""
_MARGIN: Final = 16 << 20
NOTHING: Final[Mapping[str, Wanted]] = {}

AS_BEFORE: Final = "The DPSR disk holds the backup of {taken}, as before; it starts."
UNSURE: Final = (
    "The DPSR disk holds the backup of {taken}, or is to be taken back to it: that cannot be told "
    "now. The next `dpsr update` does that first, and so does its rescue system."
)
GOES_BACK: Final = (
    "The DPSR disk could not be taken back to the backup of {taken} at once, and does not start "
    "meanwhile. The next `dpsr update` does that first."
)
NO_DIGESTS: Final = (
    "The vault has no room for digests beside the undo log: `dpsr verify` cannot check this "
    "backup. `dpsr update --full` makes them anew."
)
UNCLEAR: Final = (
    "The DPSR disk holds the new backup or that of {taken}: whichever it says, it is complete. If "
    "it says neither, its rescue system or the next `dpsr update` first goes back to the older one."
)
COMPLETE: Final = "The DPSR disk holds a complete new copy that starts."


class Transaction:
    """A context manager around one update; `begin`, write, flush, `commit`.

    `state_at`: the state sector's byte on `disk`. `vault`: where it is mounted. `before`: what the
    state sector says, `clean`. `parent`: the manifest of that generation. `slot_path` gives the
    device of a partition by its number. `identity`, by name of the slot: superblocks and their
    backups, `[start, end)` in bytes, whole sectors. They are destroyed by the first write to
    their slot; all of them have to be written again, last, after a flush. `chained` is False when
    the copy was booted since: then the log protects this update alone, and the chain is closed.
    `digests`: who keeps them; None: the new generation has none. `as_before`: what the disk holds
    when all was taken back; by default that it starts.
    """

    def __init__(
        self,
        disk: str,
        state_at: int,
        vault: Path,
        before: State,
        parent: Manifest | None,
        *,
        name: str,
        disk_guid: str,
        slots: Sequence[LogSlot],
        slot_path: SlotPath,
        screen: Screen,
        identity: Mapping[str, BlockSet],
        chained: bool = True,
        digests: Keeper | None = None,
        as_before: str = "",
    ) -> None:
        self.txid = secrets.token_hex(16)
        self._disk = disk
        self._state_at = state_at
        self._vault = vault
        self._before = before
        self._chained = chained and parent is not None
        self._name = name
        self._disk_guid = disk_guid
        self._slots = tuple(slots)
        self._slot_path = slot_path
        self._screen = screen
        self._identity = identity
        self._digests = digests
        self._as_before = as_before or AS_BEFORE.format(taken=moment(before.taken))
        self._path = vault / undolog.file_name(self.txid)
        self._stack = ExitStack()
        self._dropping = Lock()
        self._log: LogFile | None = None
        self._undo: Undo | None = None
        self._expected = 0
        self._says_updating = False
        self._commit_tried = False
        self._committed = False
        self._parent = ""
        if digests:
            digests.make_room_by(self._more_room)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        reason: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        holds = ""
        try:
            with deferred():  # to go back halfway helps nobody
                self._stack.close()  # first: nobody may write when we go back
                holds = COMPLETE if self._committed else self._end()
        except Ended as late:
            late.disk_holds = holds
            raise
        if reason is not None and holds and not getattr(reason, "disk_holds", ""):
            # Faults of ours are told with it, too.
            with suppress(AttributeError):
                reason.disk_holds = holds  # type: ignore[attr-defined]
        if isinstance(reason, NoRoom):
            full = self._full()
            full.disk_holds = holds
            raise full from None

    def begin(self, expected: int) -> dict[str, Writer]:
        """Make the disk say `updating`; return the slots' writers, by name.

        `expected`: how many bytes are likely to be overwritten. Deletes what the chain does not
        name. Raises VaultFull, StateUnreadable, WriteFailed, ReadFailed: nothing was written to
        the slots then.
        """
        self._expected = expected
        if read_state(self._disk, self._state_at) != self._before or self._before.state != "clean":
            raise StateUnreadable(
                f"The state of {self._disk} is not what it was a moment ago.", "Try again."
            )
        with chain.readable(self._vault):
            chain.sweep(self._vault, self._before)
            if self._chained:
                self._parent = chain.digest_of(self._vault, self._before.txid)
            self._need_room()
        header = Header(
            self.txid,
            self._name,
            self._disk_guid,
            self._before,
            self._before.gen + 1,
            self._parent,
            self._slots,
        )
        self._log = LogFile(self._path, header, self._more_room)
        self._stack.callback(self._log.close)
        paths = [(slot, self._slot_path(slot.number)) for slot in self._slots]
        self._undo = self._stack.enter_context(Undo(self._log, paths, self._identity))
        points.reach("undo-created")
        write_state(self._disk, self._state_at, self._updating)
        self._says_updating = True
        points.reach("updating")
        return self._digests.writers(self._undo.writers) if self._digests else self._undo.writers

    def commit(self, manifest: Manifest, wanted: Mapping[str, Wanted] = NOTHING) -> Manifest:
        """Make the new generation valid; everything has to be flushed. Returns its manifest.

        Transaction, generation, parent, undo log and digests are filled in here. `wanted`: what the
        digests are to cover, as in `Keeper.write`. Raises StateUnreadable, WriteFailed,
        CopyDiffers: the old generation is still the valid one then.
        """
        if self._log is None or self._undo is None:
            raise ValueError("commit before begin")
        if self._undo.bare:
            raise CopyDiffers(f"No superblock was written to {', '.join(self._undo.bare)}.")
        for writer in self._undo.writers.values():
            writer.flush()
        self._log.seal()
        points.reach("sealed")
        digests = self._keep_digests(self._digests, wanted) if self._digests else ()
        manifest = dataclasses.replace(
            manifest,
            txid=self.txid,
            generation=self._before.gen + 1,
            parent=self._parent,
            undo_log=self._path.name if self._chained else "",
            digests=digests,
        )
        self._write(manifest)
        points.reach("manifest-written")
        after = State(
            "clean",
            gen=manifest.generation,
            taken=manifest.taken,
            txid=self.txid,
            slot=self._before.slot,
            # What was done on the copy is overwritten by now; what was asked there is over.
            extra=self._before.with_trial("").with_primary("").extra,
        )
        with deferred():
            self._commit_tried = True
            write_state(self._disk, self._state_at, after)
            self._committed = True
        points.reach("committed")
        self._sweep(after)
        return manifest

    def _keep_digests(self, keeper: Keeper, wanted: Mapping[str, Wanted]) -> tuple[DigestFile, ...]:
        paths = {slot.name: self._slot_path(slot.number) for slot in self._slots}
        files = keeper.write(self.txid, self._disk_guid, wanted, paths.__getitem__, self._more_room)
        if keeper.gave_up():
            self._screen.warn(NO_DIGESTS)
        return files

    @property
    def _updating(self) -> State:
        return dataclasses.replace(self._before, state="updating", txid=self.txid)

    def _end(self) -> str:
        """Go back, if anything was begun; say what the disk holds."""
        if self._log is None:
            return ""
        try:
            if self._commit_tried:
                # Whether it took is not known: while we go back it must not say `clean`.
                write_state(self._disk, self._state_at, self._updating)
        except ToolError as trouble:
            self._screen.warn(str(trouble))
            return self._half(UNCLEAR)
        unknown = GOES_BACK if self._says_updating else UNSURE
        try:
            # What is behind `synced` may not be on the disk, and nothing of it was overwritten.
            with UndoLog(self._path, until=self._log.synced) as log:
                replay([log], self._slot_path, self._screen, sealed=False)
            unknown = UNSURE  # from now on it may say that it is as before
            write_state(self._disk, self._state_at, self._before)
        except (ToolError, OSError) as trouble:
            self._screen.warn(str(trouble))
            return self._half(unknown)
        points.reach("rolled-back")
        self._sweep(self._before)
        return self._as_before

    def _half(self, unknown: str) -> str:
        """What the disk holds when going back has failed: by what it says itself, if it answers."""
        try:
            now = read_state(self._disk, self._state_at)
        except (ToolError, OSError):
            return unknown.format(taken=moment(self._before.taken))
        if now.state != "clean":
            return GOES_BACK.format(taken=moment(self._before.taken))
        # It is said before a slot is touched, and again once all of them are back.
        return COMPLETE if now.txid == self.txid else self._as_before

    def _sweep(self, state: State) -> None:
        try:
            chain.sweep(self._vault, state)
        except (ToolError, OSError) as trouble:
            self._screen.warn(f"The vault could not be tidied up; the next update will: {trouble}")

    def _write(self, manifest: Manifest) -> None:
        while True:
            try:
                return manifests.write(self._vault, manifest)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise WriteFailed(
                        f"The manifest cannot be written to the vault: {reason_of(error)}."
                    ) from error
                if not self._more_room():
                    raise self._full() from None

    def _need_room(self) -> None:
        """Refuse what can never fit before anything is written."""
        room = self._free() + chain.droppable(self._vault, self._before)
        if self._expected > room * _BEST_RATIO:
            raise self._full()

    def _more_room(self) -> bool:
        """May be asked by several threads: the log's, and whoever notes digests."""
        with self._dropping, suppress(ToolError, OSError):
            if chain.drop_oldest(self._vault, self._before):
                self._screen.note("The oldest generation was dropped: the vault is full")
                return True
        return False

    def _full(self) -> VaultFull:
        size = os.statvfs(self._vault)
        needed = self._expected + self._expected // 64 + _MARGIN
        if self._log is not None:
            needed = max(needed, self._log.size + _MARGIN)
        return VaultFull(
            f"The vault holds {human(size.f_blocks * size.f_frsize)}; this update needs up to "
            f"{human(needed)} of it for what it overwrites."
        )

    def _free(self) -> int:
        size = os.statvfs(self._vault)
        return size.f_bavail * size.f_frsize
