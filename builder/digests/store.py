# SPDX-License-Identifier: GPL-3.0-or-later
"""The digests of a generation, in one or several files of the vault.

Each backup writes one file and changes none: what it copied, and what its generation covers. What
it did not copy is in the files of the backups before, newest first. A small file is taken into the
next one that is not much smaller, so that there are never many.
"""

import os
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final, Self

from builder.digests import format as form
from builder.digests.blocks import NOTHING, Digested, newest
from builder.digests.format import Damaged, Section
from core.model.blockset import EMPTY, BlockSet
from core.model.manifest import DigestFile, Manifest

_WORTH: Final = 2
"""A file is taken into the next one that has more than this part of its digests: 1/2."""


def file_name(txid: str) -> str:
    """Name of a file of digests in the vault."""
    return f"digests-{txid}.bin"


class Stored:
    """One file, open for reading. Raises Damaged, UnknownFormat, OSError."""

    def __init__(self, vault: Path, known: DigestFile) -> None:
        self.known = known
        self._where = known.file
        self._file = os.open(vault / Path(known.file).name, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._sections = self._walk()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        os.close(self._file)

    @property
    def count(self) -> int:
        """How many digests it has."""
        return sum(section.count for section in self._sections.values())

    @property
    def slots(self) -> tuple[str, ...]:
        """The slots of which something is covered."""
        return tuple(dict.fromkeys(slot for slot, _ in self._sections))

    def windows(self, slot: str) -> set[int]:
        """The windows of a slot of which something is covered."""
        return {window for name, window in self._sections if name == slot}

    def covered(self, slot: str, window: int) -> BlockSet:
        """The blocks of a window that its generation vouches for. Raises Damaged, OSError."""
        section = self._sections.get((slot, window))
        return self._ranges(section)[0] if section else EMPTY

    def window(self, slot: str, window: int) -> Digested:
        """Those digests of a window that are in this file. Raises Damaged, OSError."""
        section = self._sections.get((slot, window))
        if section is None or not section.count:
            return NOTHING
        runs = self._ranges(section)[1]
        body = self._read(section.body_at, 8 * section.count)
        return form.decode_digests(body, runs, section, self._seed, self._where)

    def _ranges(self, section: Section) -> tuple[BlockSet, BlockSet]:
        start = section.at - form.SECTION.size
        data = self._read(start, section.body_at - start)
        head, ranges = data[: form.SECTION.size], data[form.SECTION.size :]
        form.check_ranges(section, head, ranges, self._seed, self._where)
        return form.decode_ranges(ranges, section)

    def _walk(self) -> dict[tuple[str, int], Section]:
        header, at = form.decode_header(self._read(0, form.HEADER_MOST), self._where)
        self._seed = form.seed(header.txid)
        heads = [self._read(0, at)]
        found = {}
        while True:
            head = self._read(at, form.SECTION.size)
            heads.append(head)
            section = form.decode_section(head, at + form.SECTION.size, self._where)
            if section is None:
                break
            if section.slot >= len(header.slots):
                raise Damaged(f"{self._where} is damaged.")
            found[header.slots[section.slot].name, section.window] = section
            at = section.end
        if form.hash_of(heads) != self.known.hash:
            raise Damaged(f"{self._where} is not the file that its manifest names.")
        return found

    def _read(self, at: int, size: int) -> bytes:
        data = b""
        while len(data) < size and (more := os.pread(self._file, size - len(data), at + len(data))):
            data += more
        return data


class Stack:
    """The digests of one generation: its files, the newest first. A context manager.

    Raises Damaged, UnknownFormat, OSError.
    """

    def __init__(self, vault: Path, files: Sequence[DigestFile]) -> None:
        self._stack = ExitStack()
        with self._stack:
            self.files = [
                self._stack.enter_context(closing(Stored(vault, known))) for known in files
            ]
            self._stack = self._stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def slots(self) -> tuple[str, ...]:
        """The slots of which something is covered."""
        return self.files[0].slots

    def windows(self, slot: str) -> list[int]:
        """The windows of a slot of which something is covered, in order."""
        return sorted(self.files[0].windows(slot))

    def covered(self, slot: str) -> BlockSet:
        """The blocks of a slot that the generation vouches for, counted as such."""
        parts = [self.files[0].covered(slot, window) for window in self.windows(slot)]
        return EMPTY.union(*parts)

    def window(self, slot: str, window: int) -> tuple[BlockSet, Digested]:
        """What is covered of a window, and the digests of it."""
        covered = self.files[0].covered(slot, window)
        return covered, self.merged(len(self.files), slot, window).within(covered)

    def merged(self, count: int, slot: str, window: int) -> Digested:
        """What the `count` newest files know of a window."""
        return newest(file.window(slot, window) for file in self.files[:count])

    def worth_taking_in(self, count: int) -> int:
        """How many of the newest files a new one of `count` digests should take in."""
        for number, file in enumerate(self.files):
            if file.count > _WORTH * count:
                return number
            count += file.count
        return len(self.files)


def stack_of(vault: Path, manifest: Manifest) -> Stack | None:
    """The digests of a generation; None: it has none. Raises Damaged, UnknownFormat, OSError."""
    return Stack(vault, manifest.digests) if manifest.digests else None
