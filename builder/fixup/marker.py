# SPDX-License-Identifier: GPL-3.0-or-later
"""/etc/dpsr/copy.json: says on a copy that it is one, of what, and what was renamed to what."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from core.errors import UnknownFormat
from core.model.copy import Pair
from core.model.plain import Misfit, from_plain, to_plain

VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Marker:
    """A copy's own words about itself."""

    version: int
    disk: str
    """GUID (GPT) or signature (MBR) of the disk that the copy was made for."""
    pairs: tuple[Pair, ...]


def dump(disk: str, pairs: Iterable[Pair]) -> bytes:
    """The file's content: the same for the same names."""
    kept = tuple(replace(pair, old=replace(pair.old, paths=())) for pair in pairs)
    return (json.dumps(to_plain(Marker(VERSION, disk, kept)), indent=2) + "\n").encode()


def load(content: bytes) -> Marker:
    """Read the file. Raises UnknownFormat."""
    try:
        data = json.loads(content)
        version = data.get("version") if isinstance(data, dict) else None
        if version != VERSION:
            raise UnknownFormat(f"/etc/dpsr/copy.json has version {version}, this program knows 1.")
        return from_plain(Marker, data)
    except (ValueError, Misfit) as reason:
        raise UnknownFormat(f"/etc/dpsr/copy.json cannot be read: {reason}.") from None
