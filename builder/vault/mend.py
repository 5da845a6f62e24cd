# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the vault's file system fit to be mounted, whatever instant the power failed at.

ext4 writes its superblock past its own journal, and a disk keeps 512 bytes at a time: half new and
half old, its checksum is wrong, and neither kernel nor `e2fsck -p` takes it. Then a backup of it
is put in its place. All else is in the journal. The rescue system runs this: no numpy.
"""

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from builder.change.superblock import AT, SIZE
from core.errors import ReadFailed, WriteFailed
from core.namespace import mounted
from core.run import run

_MAGIC: Final = 0xEF53
_CHECKSUM: Final = 0x3FC
_HAS_CHECKSUM: Final = 0x400
"""`metadata_csum` among the features for writing."""
_HAS_JOURNAL: Final = 0x4
_NEEDS_REPLAY: Final = 0x4
"""`needs_recovery` among the incompatible features: a backup does not say it."""
_IS_VALID: Final = 1
_TIMEOUT: Final = 600.0

_GROUPS: Final = (1, 3, 5, 7, 9, 25, 27, 49)
"""Block groups with a backup, those that a vault of any size has first."""


@contextmanager
def vault_at(device: str, *options: str) -> Iterator[Path]:
    """Mount the vault for the length of the block, mended when that is needed, and yield it.

    Raises CommandFailed, ReadFailed, WriteFailed.
    """
    mend(device)
    with mounted(device, "vault", *options, fstype="ext4") as folder:
        yield folder


@contextmanager
def vault_unchanged(device: str) -> Iterator[Path]:
    """Mount the vault to look into it; nothing is written, not even by the journal.

    Raises CommandFailed, ReadFailed.
    """
    with _reading(device) as file:
        if _backup_for(file) is not None:
            raise ReadFailed(
                "The vault of the DPSR disk was cut off in the middle of a write. Nothing is lost.",
                "`dpsr update` mends it; so does the rescue system, when it has something to do.",
            )
    with mounted(device, "vault", "ro", "noload", fstype="ext4") as folder:
        yield folder


def check(device: str) -> None:
    """Replay the journal of the vault, which is not mounted, and mend it where that is safe.

    Raises CommandFailed (it needs a person), ReadFailed, WriteFailed.
    """
    if not mend(device):
        run("e2fsck", "-p", device, ok=(0, 1), timeout=_TIMEOUT)


def mend(device: str) -> bool:
    """Put a backup in the place of a superblock that is not whole; True when it had to.

    Again does no harm, also after a power cut in the middle. Without a backup that fits nothing is
    written. Raises CommandFailed, ReadFailed, WriteFailed.
    """
    with _reading(device) as file:
        block, found = _read(file, AT), _backup_for(file)
    if found is not None:
        try:
            with open(device, "r+b", buffering=0) as stream:
                os.pwrite(stream.fileno(), as_primary(found), AT)
                os.fsync(stream.fileno())
        except OSError as error:
            raise WriteFailed(f"The vault {device} cannot be written: {error.strerror}.") from error
    elif not is_whole(block) or struct.unpack_from("<H", block, 0x3A)[0] & _IS_VALID:
        return False  # where nothing can be done, who mounts it says so
    # What the backup says of free space is old: all of it is counted again, after the journal.
    run("e2fsck", "-f", "-p", device, ok=(0, 1), timeout=_TIMEOUT)
    return True


def is_whole(block: bytes) -> bool:
    """Whether these 1,024 bytes are an ext4 superblock of one piece."""
    if len(block) != SIZE or struct.unpack_from("<H", block, 0x38)[0] != _MAGIC:
        return False
    if not struct.unpack_from("<I", block, 0x64)[0] & _HAS_CHECKSUM:
        return True  # nothing says otherwise
    return bool(crc32c(block[:_CHECKSUM]) == struct.unpack_from("<I", block, _CHECKSUM)[0])


def as_primary(backup: bytes) -> bytes:
    """A backup as the primary superblock of a file system that was not unmounted."""
    block = bytearray(backup)
    (compatible, incompatible) = struct.unpack_from("<II", block, 0x5C)
    if compatible & _HAS_JOURNAL:  # an empty one takes no harm from it
        struct.pack_into("<I", block, 0x60, incompatible | _NEEDS_REPLAY)
    (state,) = struct.unpack_from("<H", block, 0x3A)
    # With a journal it is always valid: so this mark stays until the check has come to its end.
    struct.pack_into("<H", block, 0x3A, state & ~_IS_VALID)
    struct.pack_into("<H", block, 0x5A, 0)  # the block group that it lies in
    if struct.unpack_from("<I", block, 0x64)[0] & _HAS_CHECKSUM:
        struct.pack_into("<I", block, _CHECKSUM, crc32c(bytes(block[:_CHECKSUM])))
    return bytes(block)


def crc32c(data: bytes) -> int:
    """CRC-32C as ext4 keeps it: begun with all ones, not inverted at the end."""
    value = 0xFFFFFFFF
    for byte in data:
        value = _TABLE[(value ^ byte) & 0xFF] ^ value >> 8
    return value


@contextmanager
def _reading(device: str) -> Iterator[int]:
    try:
        with open(device, "rb", buffering=0) as stream:
            yield stream.fileno()
    except OSError as error:
        raise ReadFailed(f"The vault {device} cannot be read: {error.strerror}.") from error


def _backup_for(file: int) -> bytes | None:
    """What has to take the place of the superblock, if it has to and there is something."""
    return None if is_whole(_read(file, AT)) else _backup(file)


def _backup(file: int) -> bytes | None:
    """The first whole backup that says of itself that it belongs there.

    Nothing else tells the size of a block; a group has as many as its bitmap's block has bits.
    """
    for group in _GROUPS:
        for log in (2, 0, 1):
            size = 1024 << log
            first = int(size == 1024)
            block = _read(file, (first + group * 8 * size) * size)
            if not is_whole(block):
                continue
            (logged,) = struct.unpack_from("<I", block, 0x18)
            (per_group,) = struct.unpack_from("<I", block, 0x20)
            (own,) = struct.unpack_from("<H", block, 0x5A)
            if (logged, per_group, own) == (log, 8 * size, group):
                return block
    return None


def _read(file: int, offset: int) -> bytes:
    return os.pread(file, SIZE, offset)


def _rest(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ 0x82F63B78 * (byte & 1)
    return byte


_TABLE: Final = tuple(map(_rest, range(256)))
