# SPDX-License-Identifier: GPL-3.0-or-later
"""What the control partition, the boot sector and GRUB's BIOS image ought to hold, by hash.

A list beside the loader, `dpsr/sums`, and one beside each rescue system. It is written with what it
lists, so that nothing else has to know when that changed.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

import xxhash

from core.files import write_durably
from core.model.machine import Disk
from grub import sectors

SUMS: Final = "sums"
LF: Final = b"\n"
LOADER: Final = "the boot loader"
"""What `check` calls the loader's list."""
_FIRST: Final = "dpsr-sums 1"
_LOADER: Final = Path("dpsr")
_GRUB: Final = ("EFI", "grub")
_RESCUE: Final = "dpsr/r-*"
_BOOT_CODE: Final = 440
"""Bytes of a disk's first sector that are program; the disk's signature and a table follow."""
_BIOS: Final = 1 << 20
BOOT_SECTOR: Final = ":boot-sector"
BIOS_IMAGE: Final = ":bios-boot"


def raw(disk: str, bios_start: int) -> dict[str, bytes]:
    """What makes a disk start by BIOS and lies in no file. Raises OSError."""
    return {
        BOOT_SECTOR: sectors.read(disk, 0, _BOOT_CODE),
        BIOS_IMAGE: sectors.read(disk, bios_start, _BIOS),
    }


def raw_of(disk: Disk) -> dict[str, bytes]:
    """The same of a prepared disk. Raises OSError."""
    return raw(disk.path, next(p.start for p in disk.partitions if p.name == "dpsr-bios"))


def keep_loader(control: Path, outside: Mapping[str, bytes]) -> None:
    """Write the list of the loader's files, menu and modules; `outside`: see `raw`."""
    found = {name: _of_file(control / name) for name in _loader(control)}
    found |= {name: xxhash.xxh3_128_hexdigest(data) for name, data in outside.items()}
    _write(control / _LOADER / SUMS, found)


def renew(control: Path, names: Iterable[str]) -> None:
    """Write into the loader's list what these files are now; the rest of it stays.

    A disk without list, or with a damaged one, stays so. Raises OSError.
    """
    known = _read(control)
    if known is None:
        return
    found = {name: _of_file(control / name) for name in names}
    if known | found != known:
        _write(control / _LOADER / SUMS, known | found)


def agree(control: Path, names: Iterable[str]) -> bool:
    """Whether the loader's list, if there is one, has these files as they are."""
    known = _read(control)
    return known is None or all(
        known.get(name) == _of_file_or_nothing(control / name) for name in names
    )


def keep_folder(folder: Path) -> None:
    """Write the list of the files in a rescue system's folder."""
    names = sorted(path.name for path in folder.iterdir() if path.name != SUMS)
    _write(folder / SUMS, {name: _of_file(folder / name) for name in names})


def check(control: Path, outside: Mapping[str, bytes]) -> tuple[list[str], list[str]]:
    """What differs from the lists, by name, and what has no list. Raises OSError."""
    damaged: list[str] = []
    unlisted: list[str] = []
    folders = sorted(control.glob(_RESCUE))
    for folder, what in ((control, LOADER), *((one, str(one.name)) for one in folders)):
        path = control / _LOADER / SUMS if folder == control else folder / SUMS
        if not path.is_file():
            unlisted.append(what)
            continue
        known = decode(path.read_bytes())
        if known is None:
            damaged.append(str(path.relative_to(control)))
            continue
        for name, wanted in known.items():
            if name in outside:
                found = xxhash.xxh3_128_hexdigest(outside[name])
            else:
                found = _of_file_or_nothing(folder / name)
            if found != wanted:
                damaged.append(
                    name if folder == control else f"{folder.relative_to(control)}/{name}"
                )
    return damaged, unlisted


def encode(sums: Mapping[str, str]) -> bytes:
    """A list as it is on disk. Pure."""
    text = "".join(
        f"{line}\n" for line in (_FIRST, *(f"{sums[name]}  {name}" for name in sorted(sums)))
    )
    return f"{text}{xxhash.xxh3_128_hexdigest(text.encode())}  -\n".encode()


def decode(data: bytes) -> dict[str, str] | None:
    """The hashes of a list, by name; None: it is damaged, or of another version. Pure."""
    text, _, last = data.rstrip(b"\n").rpartition(b"\n")
    if f"{xxhash.xxh3_128_hexdigest(text + LF)}  -".encode() != last:
        return None
    first, *lines = text.decode().splitlines()
    return {line[34:]: line[:32] for line in lines} if first == _FIRST else None


def _read(control: Path) -> dict[str, str] | None:
    try:
        return decode((control / _LOADER / SUMS).read_bytes())
    except FileNotFoundError:
        return None


def _loader(control: Path) -> Iterator[str]:
    for folder in _GRUB:
        for top, folders, files in os.walk(control / folder):
            here = Path(top).relative_to(control)
            folders.sort()
            # GRUB itself writes to its environment.
            yield from (str(here / name) for name in sorted(files) if name != "grubenv")


def _write(path: Path, found: Mapping[str, str]) -> None:
    path.parent.mkdir(exist_ok=True)
    write_durably(path, encode(found))


def _of_file(path: Path) -> str:
    state = xxhash.xxh3_128()
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            state.update(chunk)
    return str(state.hexdigest())


def _of_file_or_nothing(path: Path) -> str:
    try:
        return _of_file(path)
    except OSError:
        return ""
