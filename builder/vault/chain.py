# SPDX-License-Identifier: GPL-3.0-or-later
"""The chain of generations in the vault: what leads back from the newest, and what is left over.

Each manifest names its parent by hash and the undo log that leads there. What no link names
belongs to a run that did not end, or to a chain that was closed.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from builder.vault import manifests, undolog
from builder.vault.undoread import UndoLog
from core.errors import ReadFailed, UnknownFormat
from core.errors.system import reason_of
from core.files import sync_folder
from core.model.manifest import Manifest
from core.model.state import State

_OURS: Final = ("manifest-*", ".manifest-*", "undo-*", "digests-*")


@contextmanager
def readable(vault: Path) -> Iterator[None]:
    """Whatever the system says against files of the vault becomes ReadFailed."""
    try:
        yield
    except OSError as error:
        where = error.filename or vault
        raise ReadFailed(f"The vault cannot be used, {where}: {reason_of(error)}.") from error


def digest_of(vault: Path, txid: str) -> str:
    """What a child names this manifest by. Raises FileNotFoundError."""
    return manifests.digest((vault / manifests.file_name(txid)).read_bytes())


def generations(vault: Path, state: State) -> tuple[Manifest, ...]:
    """The chain, newest first, as far back as the undo logs lead; empty when there is no manifest.

    While the disk says `updating`: the chain as it was before. Raises UnknownFormat (the newest
    cannot be read), UndoLogDamaged (the log of the interrupted update cannot), OSError.
    """
    txid = state.txid
    if state.state == "updating":
        with UndoLog(vault / undolog.file_name(txid)) as log:
            txid = log.header.before.txid
    newest = manifests.whole(vault, txid) if txid else None
    if newest is None:
        return ()
    chain = [newest]
    by_digest = _by_digest(vault)
    while (parent := by_digest.get(chain[-1].parent)) and _leads(vault, chain[-1], parent):
        chain.append(parent)
    return tuple(chain)


def sweep(vault: Path, state: State) -> None:
    """Delete what the chain does not name; files that are none of ours stay.

    Only in state `clean`: else what is to be kept is not known. Raises UnknownFormat (then
    nothing was deleted), OSError.
    """
    if state.state != "clean":
        raise ValueError(f"the vault is not swept while the disk says {state.state}")
    chain = generations(vault, state)
    kept = {manifests.file_name(each.txid) for each in chain}
    kept |= {each.undo_log for each in chain[:-1]} | _digests(chain)
    if not chain:  # the newest is lost: the others are all that still knows the slots' names
        kept = {path.name for path in vault.glob("manifest-*")}
    _delete(vault, [path for path in _ours(vault) if path.name not in kept])


def drop_oldest(vault: Path, state: State) -> bool:
    """Give up the oldest generation for its room; False when the newest is all that is left."""
    chain = generations(vault, state)
    if len(chain) < 2:
        return False
    names = {chain[-2].undo_log, manifests.file_name(chain[-1].txid)}
    names |= _digests(chain[-1:]) - _digests(chain[:-1])
    _delete(vault, [vault / name for name in sorted(names)])
    return True


def droppable(vault: Path, state: State) -> int:
    """Bytes of the logs and digests that `drop_oldest` could give up."""
    chain = generations(vault, state)
    names = {each.undo_log for each in chain[:-1]} | (_digests(chain[1:]) - _digests(chain[:1]))
    return sum(path.stat().st_size for path in map(vault.joinpath, names) if path.exists())


def _digests(chain: Sequence[Manifest]) -> set[str]:
    """The files of digests that these generations need."""
    return {Path(each.file).name for manifest in chain for each in manifest.digests}


def _leads(vault: Path, child: Manifest, parent: Manifest) -> bool:
    return (
        bool(child.undo_log)
        and Path(child.undo_log).name == child.undo_log
        and parent.generation < child.generation
        and (vault / child.undo_log).is_file()
    )


def _by_digest(vault: Path) -> dict[str, Manifest]:
    found = {}
    for path in vault.glob("manifest-*.json"):
        data = path.read_bytes()
        try:
            found[manifests.digest(data)] = manifests.decode(data, str(path))
        except UnknownFormat:
            continue  # the chain ends before it
    return found


def _ours(vault: Path) -> Iterator[Path]:
    for pattern in _OURS:
        yield from sorted(vault.glob(pattern))


def _delete(vault: Path, paths: list[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
    if paths:
        sync_folder(vault)  # their room is free from now on
