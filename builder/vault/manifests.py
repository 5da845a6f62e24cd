# SPDX-License-Identifier: GPL-3.0-or-later
"""Manifests in the vault: one JSON file a generation, each naming its parent's hash.

The state sector names the newest by its transaction; the chain leads back from there. A file
that the chain does not name belongs to a run that did not end, and is deleted by the next.
"""

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from core.errors import CopyDiffers, UnknownFormat
from core.files import sync_folder, write_durably
from core.model.manifest import VERSION, Manifest
from core.model.plain import Misfit, from_plain, to_plain

FORMAT: Final = "dpsr-manifest"
_READABLE: Final = range(1, VERSION + 1)


def digest(data: bytes) -> str:
    """xxh3-128 in hex."""
    import xxhash

    return str(xxhash.xxh3_128_hexdigest(data))


def file_name(txid: str) -> str:
    """Name of a manifest in the vault."""
    return f"manifest-{txid}.json"


def encode(manifest: Manifest) -> bytes:
    """The bytes of a manifest file."""
    document = {"format": FORMAT, "version": VERSION, "manifest": to_plain(manifest)}
    return json.dumps(document, indent=1, sort_keys=True).encode() + b"\n"


def decode(data: bytes, where: str) -> Manifest:
    """Read the bytes of a manifest file. Raises UnknownFormat; `where` is for its sentence."""
    try:
        document = json.loads(data)
        if document["format"] != FORMAT or document["version"] not in _READABLE:
            raise UnknownFormat(f"{where} has a format that this version of dpsr does not know.")
        return from_plain(Manifest, document["manifest"])
    except (Misfit, ValueError, KeyError, TypeError) as reason:
        raise UnknownFormat(f"{where} is no manifest: {reason}.") from None


def write(vault: Path, manifest: Manifest) -> None:
    """Write a manifest and read it back. It counts only once the state sector names it."""
    path = vault / file_name(manifest.txid)
    write_durably(path, encode(manifest), 0o600)
    if decode(path.read_bytes(), str(path)) != manifest:
        raise CopyDiffers(f"{path} does not read back as it was written.")


def read(vault: Path, txid: str) -> Manifest:
    """The manifest of transaction `txid`. Raises UnknownFormat, FileNotFoundError."""
    path = vault / file_name(txid)
    return decode(path.read_bytes(), str(path))


def whole(vault: Path, txid: str) -> Manifest | None:
    """The same; None when it is not there, or no JSON any more: the disk has lost it.

    Raises UnknownFormat (another version wrote it), OSError.
    """
    try:
        data = (vault / file_name(txid)).read_bytes()
        json.loads(data)
    except (FileNotFoundError, ValueError):
        return None
    return decode(data, str(vault / file_name(txid)))


def readable(vault: Path) -> list[Manifest]:
    """All that this version can read, whether the chain names them or not. Raises OSError."""
    found = []
    for path in _all(vault):
        with suppress(UnknownFormat):
            found.append(decode(path.read_bytes(), str(path)))
    return found


def clear(vault: Path) -> None:
    """Delete every manifest, log and digest: the first copy starts a chain of its own.

    The disk says `building` by then: none of it leads anywhere.
    """
    for pattern in ("manifest-*", ".manifest-*", "undo-*", "digests-*"):
        for path in sorted(vault.glob(pattern)):
            path.unlink()
    sync_folder(vault)


def _all(vault: Path) -> Iterator[Path]:
    yield from sorted(vault.glob("manifest-*.json"))
