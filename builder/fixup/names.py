# SPDX-License-Identifier: GPL-3.0-or-later
"""What is called how on the primary and on the copy: finds old names in texts, puts new ones. Pure.

A device is named by a tag (`UUID=…`), by a path (`/dev/sda1`, `/dev/disk/by-label/…`) or, in boot
loaders' files, by its bare UUID. Labels alone are words like any other: they count only where a
tag, a link or an option says that they are labels.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from core.machine.escapes import from_hex
from core.model.copy import Identity, Pair

TAGS: Final = ("UUID", "LABEL", "PARTUUID", "PARTLABEL")
_LINKS: Final = {f"/dev/disk/by-{tag.lower()}/": tag for tag in TAGS}


@dataclass(frozen=True)
class Names:
    """The renamings of one copy. `left_out`: file systems of the primary that have no slot."""

    pairs: tuple[Pair, ...]
    left_out: tuple[Identity, ...] = ()

    def find(self, spec: str) -> Pair | None:
        """The pair that `spec` names by its old name: `UUID=…`, `"LABEL=…"`, `/dev/…`."""
        for pair in self.pairs:
            if _means(spec, pair.old):
                return pair
        return None

    def is_new(self, spec: str) -> bool:
        """Whether `spec` names a slot of the copy."""
        return any(_means(spec, pair.new) for pair in self.pairs)

    def rename(self, spec: str) -> str | None:
        """The new name for `spec`, of the same kind where there is one; None for other names.

        A label becomes a UUID, which survives whatever label the copy has; a path becomes a link
        by UUID, since the kernel's names change between boots.
        """
        pair = self.find(spec)
        if pair is None:
            return None
        kind, _ = _tag(spec)
        new = pair.new
        by_path = spec.startswith("/")
        value, tag = new.uuid, "UUID"
        if kind in {"PARTUUID", "PARTLABEL"} and new.partuuid:
            value, tag = new.partuuid, "PARTUUID"
        return f"/dev/disk/by-{tag.lower()}/{value}" if by_path else f"{tag}={value}"

    def substitute(self, text: str) -> str:
        """`text` with every old name replaced: tags, paths, and UUIDs that stand alone."""
        return self._pattern.sub(self._replace, text) if self.pairs else text

    def remaining(self, text: str) -> list[str]:
        """The old names that are in `text`, each once, in the order of their first appearance."""
        if not self.pairs:
            return []
        return list(dict.fromkeys(found.group(0) for found in self._pattern.finditer(text)))

    def needles(self) -> Iterator[tuple[bytes, bytes]]:
        """Old and new UUIDs of one length, as they appear inside programs: ASCII and UTF-16."""
        for pair in self.pairs:
            old_one, new_one = pair.old, pair.new
            renamings = ((old_one.uuid, new_one.uuid), (old_one.partuuid, new_one.partuuid))
            for old, new in renamings:
                if len(old) == len(new) == 36:  # shorter ones could be anything
                    for coding in ("ascii", "utf-16-le"):
                        yield old.encode(coding), new.encode(coding)

    @cached_property
    def _tokens(self) -> dict[str, str]:
        """Each old name to its replacement; UUIDs, which know no case, in lower case."""
        tokens: dict[str, str] = {}
        for pair in self.pairs:
            for old, new in _renamings(pair):
                tokens.setdefault(old, new)
        return tokens

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        # Longest first: /dev/sda1 is the beginning of /dev/sda12, a tag of the UUID in it.
        words = sorted(self._tokens, key=lambda word: (-len(word), word))
        return re.compile("|".join(_bounded(word) for word in words))

    def _replace(self, found: re.Match[str]) -> str:
        word = found.group(0)
        return self._tokens[word] if word in self._tokens else self._tokens[word.lower()]


def _renamings(pair: Pair) -> Iterator[tuple[str, str]]:
    old, new = pair.old, pair.new
    by_uuid = f"/dev/disk/by-uuid/{new.uuid}"
    if old.uuid:
        yield old.uuid.lower(), new.uuid
        yield _in_unit(old.uuid.lower()), _in_unit(new.uuid)
    if old.partuuid and new.partuuid:
        yield old.partuuid.lower(), new.partuuid
        yield _in_unit(old.partuuid.lower()), _in_unit(new.partuuid)
    for quote in ("", '"', "'"):
        for label in _spellings(old.label):
            yield f"LABEL={quote}{label}{quote}", f"UUID={quote}{new.uuid}{quote}"
        for label in _spellings(old.partlabel):
            yield f"PARTLABEL={quote}{label}{quote}", f"PARTUUID={quote}{new.partuuid}{quote}"
    for label in _spellings(old.label):
        yield f"/dev/disk/by-label/{label}", by_uuid
    for label in _spellings(old.partlabel):
        yield f"/dev/disk/by-partlabel/{label}", f"/dev/disk/by-partuuid/{new.partuuid}"
    for path in old.paths:
        if not any(path.startswith(link) for link in _LINKS):
            yield path, by_uuid


def _in_unit(word: str) -> str:
    """As systemd writes it in names of units."""
    return word.replace("-", "\\x2d")


def _spellings(label: str) -> Iterable[str]:
    """A label as it is, as udev links and as fstab write it."""
    if not label:
        return ()
    link = "".join(c if c.isalnum() or c in "#+-.:=@_" else f"\\x{ord(c):02x}" for c in label)
    table = "".join(f"\\{ord(c):03o}" if c in " \t\\" else c for c in label)
    return dict.fromkeys((label, link, table))


def _bounded(word: str) -> str:
    """A pattern for `word` where it is not a part of a longer name."""
    if word.startswith("/") or "=" in word:
        return rf"(?<![\w/.-]){re.escape(word)}(?![\w/:+@-]|\.\w)"
    # A UUID of full length is one wherever it stands (`gnulinux-simple-UUID`); short ids of FAT and
    # MBR partitions must stand alone.
    before = r"(?<![0-9a-f])" if len(word) > 30 else r"(?<![0-9a-z-])"
    return rf"(?i:{before}{re.escape(word)}(?![0-9a-z-]))"


def _tag(spec: str) -> tuple[str, str]:
    """`UUID="x"` and `/dev/disk/by-uuid/x` as `("UUID", "x")`; other paths as `("", path)`."""
    spec = spec.strip("\"'")
    for link, tag in _LINKS.items():
        if spec.startswith(link):
            return tag, from_hex(spec[len(link) :])
    tag, equals, value = spec.partition("=")
    if equals and tag in TAGS:
        return tag, value.strip("\"'")
    return "", spec


def _means(spec: str, one: Identity) -> bool:
    tag, value = _tag(spec)
    if not value:
        return False
    match tag:
        case "UUID":
            return value.lower() == one.uuid.lower()
        case "LABEL":
            return value == one.label
        case "PARTUUID":
            return value.lower() == one.partuuid.lower()
        case "PARTLABEL":
            return value == one.partlabel
    return value in one.paths
