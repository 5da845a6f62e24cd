# SPDX-License-Identifier: GPL-3.0-or-later
"""Ends what an interrupted update or rollback left, and goes back to older generations.

All of it may be cut at any instant and done again.
"""

import dataclasses
from contextlib import ExitStack
from pathlib import Path

from builder.vault import chain, mend, undolog, unlike
from builder.vault.replay import SlotPath, replay
from builder.vault.undoread import UndoLog
from core import points
from core.errors import ChainClosed, NoSuchGeneration, ToolError, UndoLogDamaged
from core.model.manifest import Manifest
from core.model.state import State
from core.screen import Screen, moment
from grub.state import read_state, write_state


def recover(
    disk: str, state_at: int, vault_device: str, slot_path: SlotPath, screen: Screen
) -> State:
    """Bring the DPSR disk back to `clean` after an interruption; return its state.

    A disk that is `clean`, or `building`, is left alone. The caller is in a private mount
    namespace; the control partition is not mounted. Raises UndoLogDamaged, UnknownFormat,
    StateUnreadable, WriteFailed, CommandFailed (the vault's file system cannot be repaired).
    """
    state = read_state(disk, state_at)
    if state.state in {"clean", "building"}:
        return state
    mend.check(vault_device)
    with mend.vault_at(vault_device) as vault:
        return finish(disk, state_at, vault, slot_path, screen)


def finish(disk: str, state_at: int, vault: Path, slot_path: SlotPath, screen: Screen) -> State:
    """`recover`, once the vault is checked and mounted."""
    state = read_state(disk, state_at)
    if state.state == "updating":
        screen.step(
            f"Taking back an interrupted update: the backup of {moment(state.taken)} returns"
        )
        with UndoLog(vault / undolog.file_name(state.txid)) as log:
            log.sync()  # a process that was killed may have left more than the disk has yet
            before = log.header.before
            if log.header.txid != state.txid or before.gen != state.gen:
                raise UndoLogDamaged("The undo log in the vault is that of another update.")
            replay([log], slot_path, screen, sealed=False)
        return _clean(disk, state_at, vault, before, state, screen)
    if state.state == "rolling-back":
        screen.step(f"Going on with the way back to generation {state.to}")
        return _go_back(disk, state_at, vault, state, slot_path, screen)
    return state


def roll_back(
    disk: str,
    state_at: int,
    vault: Path,
    state: State,
    to: int,
    slot_path: SlotPath,
    screen: Screen,
) -> State:
    """Take the slots back from `state`, `clean`, to generation `to`; return the new state.

    Writes only slots and the state sector, so a full vault does not stop it. What lies above `to`
    is deleted at the end. Raises NoSuchGeneration, ChainClosed, UndoLogDamaged: nothing was
    written.
    Raises StateUnreadable, WriteFailed: `recover` goes on with it.
    """
    if state.state != "clean" or read_state(disk, state_at) != state:
        raise ChainClosed("The DPSR disk is not in a state to go back from. Nothing was written.")
    known = way_back(vault, state, to, slot_path)
    if to == state.gen:
        return state
    _check(vault, known, to)
    rolling = dataclasses.replace(state, state="rolling-back", to=to)
    write_state(disk, state_at, rolling)
    points.reach("rolling-back")
    return _go_back(disk, state_at, vault, rolling, slot_path, screen)


def way_back(vault: Path, state: State, to: int, slot_path: SlotPath) -> tuple[Manifest, ...]:
    """The generations from the newest down to `to`, when the disk says `clean`; writes nothing.

    That each undo log is whole is for `roll_back` to see: they are long. Raises NoSuchGeneration,
    ChainClosed, ReadFailed.
    """
    with chain.readable(vault):
        known = chain.generations(vault, state)
        found = unlike.examine(vault, known[0], slot_path) if known else ()
    if why := unlike.closed(found, booted=state.booted):
        raise ChainClosed(f"{why} Nothing was written.")
    if to not in {each.generation for each in known}:
        others = ", ".join(str(each.generation) for each in known[1:]) or "none"
        raise NoSuchGeneration(
            f"There is no way back to generation {to} (there is to: {others}). Nothing was written."
        )
    return tuple(each for each in known if each.generation >= to)


def _check(vault: Path, known: tuple[Manifest, ...], to: int) -> None:
    """Every log that is needed is complete, before anything says otherwise."""
    for manifest in known:
        if manifest.generation > to:
            with UndoLog(vault / manifest.undo_log) as log:
                for _ in log.records(need_seal=True):
                    pass


def _go_back(
    disk: str, state_at: int, vault: Path, state: State, slot_path: SlotPath, screen: Screen
) -> State:
    """From the newest log downwards, however far an earlier try came."""
    with chain.readable(vault):
        known = chain.generations(vault, state)
    path = [each for each in known if state.to is not None and each.generation > state.to]
    if not path or len(path) == len(known):
        raise UndoLogDamaged(f"The undo logs that lead to generation {state.to} are missing.")
    with ExitStack() as stack:
        logs = [stack.enter_context(UndoLog(vault / each.undo_log)) for each in path]
        before = logs[-1].header.before
        if before.gen != state.to or before.txid != known[len(path)].txid:
            raise UndoLogDamaged(f"The undo logs do not lead to generation {state.to}.")
        replay(logs, slot_path, screen, sealed=True)
    return _clean(disk, state_at, vault, before, state, screen)


def _clean(
    disk: str, state_at: int, vault: Path, before: State, now: State, screen: Screen
) -> State:
    """Say that the slots hold `before` again.

    The other keys (rescue system, order found, trial) belong to the disk, not to a generation.
    """
    state = dataclasses.replace(before, extra=now.extra)
    write_state(disk, state_at, state)
    points.reach("rolled-back")
    try:
        chain.sweep(vault, state)
    except (ToolError, OSError) as trouble:
        screen.warn(f"The vault could not be tidied up; the next update will: {trouble}")
    return state
