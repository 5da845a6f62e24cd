# SPDX-License-Identifier: GPL-3.0-or-later
"""The state block: the one 512-byte sector that decides what the DPSR disk holds.

It is the file `dpsr/state` of the control partition, so that GRUB can read it, and is read and
written here through the whole disk, at an offset found once, while nothing is mounted.
`dpsr status` imports this module: it stays light.
"""

import fcntl
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from core.errors import StateUnreadable, UnknownFormat
from core.errors.system import reason_of
from core.files import sync_folder
from core.model.state import FORMAT, PHASES, Phase, State
from grub import envblock, sectors

SECTOR: Final = sectors.SECTOR
"""All settings lie in the block's first sector, so that a torn write does no harm."""
FILE: Final = "dpsr/state"
"""Path of the block on the control partition."""

NOT_READ: Final = "The state block of {disk} could not be read: {why}."
FAILING: Final = (
    "Look at `dmesg`, the cable and `smartctl -a` of that disk, then run the command again. If "
    "that fails, too, replace the disk and make a new copy with `dpsr prepare`."
)

_FIBMAP: Final = 1
_FIGETBSZ: Final = 2
_KNOWN: Final = frozenset({"format", "state", "gen", "taken", "txid", "booted", "slot", "to"})


def pack(state: State) -> bytes:
    """The 1,024 bytes of `dpsr/state`. Raises ValueError when they pass the first sector."""
    pairs = [
        ("format", str(FORMAT)),
        ("state", state.state),
        ("gen", str(state.gen)),
        ("taken", state.taken),
        ("txid", state.txid),
        ("booted", str(int(state.booted))),
        ("slot", state.slot),
    ]
    if state.to is not None:
        pairs.append(("to", str(state.to)))
    return envblock.encode((*pairs, *state.extra), within=SECTOR)


def parse(data: bytes) -> State:
    """Read the 1,024 bytes of `dpsr/state`.

    Raises UnknownFormat (a version that this one does not know), StateUnreadable (anything else
    that is not as `pack` or GRUB's own save_env writes it).
    """
    try:
        pairs = dict(envblock.decode(data))
        _check(pairs, data)
        return State(
            state=_phase(pairs["state"]),
            gen=_number(pairs["gen"]),
            taken=pairs["taken"],
            txid=pairs["txid"],
            booted={"0": False, "1": True}[pairs["booted"]],
            slot=pairs["slot"],
            to=_number(pairs["to"]) if "to" in pairs else None,
            extra=tuple((name, value) for name, value in pairs.items() if name not in _KNOWN),
        )
    except KeyError as missing:
        raise StateUnreadable(
            f"The state block of the DPSR disk cannot be read: {missing} is missing or wrong."
        ) from None
    except ValueError as reason:
        raise StateUnreadable(
            f"The state block of the DPSR disk cannot be read: {reason}."
        ) from None


def create(control_mount: Path, state: State) -> None:
    """Write the file anew on the mounted control partition, synced; `locate` finds it then."""
    path = control_mount / FILE
    path.parent.mkdir(exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    with open(descriptor, "wb") as stream:
        # Overwritten in place when it is there: its offset may be on record already.
        stream.write(pack(state))
        stream.truncate()
        stream.flush()
        os.fsync(stream.fileno())
    sync_folder(path.parent)
    sync_folder(control_mount)


def locate(control_mount: Path) -> int:
    """Where the block begins on the whole disk; proven by reading it back from there.

    Raises StateUnreadable: the file is not of one piece, not at a sector's start, or not found
    where the file system says that it is.
    """
    path = control_mount / FILE
    with open(path, "rb") as stream:
        os.fsync(stream.fileno())
        wanted = stream.read()
        grain: int = struct.unpack("i", fcntl.ioctl(stream, _FIGETBSZ, bytes(4)))[0]
        count = -(-len(wanted) // grain)
        blocks: list[int] = [
            struct.unpack("i", fcntl.ioctl(stream, _FIBMAP, struct.pack("i", index)))[0]
            for index in range(count)
        ]
        device = os.fstat(stream.fileno()).st_dev
    if not count or 0 in blocks or blocks != list(range(blocks[0], blocks[0] + count)):
        raise StateUnreadable(f"{path} does not lie in one piece on its disk.")
    parse(wanted)
    disk, start = sectors.whole_disk(device)
    offset = start + blocks[0] * grain
    if _read(disk, offset, envblock.SIZE) != wanted:
        raise StateUnreadable(f"{path} is not found at byte {offset} of {disk}.")
    return offset


def read_state(disk: str, offset: int) -> State:
    """The state of the DPSR disk `disk`, from the disk itself and not from any cache.

    Raises StateUnreadable, UnknownFormat.
    """
    return parse(_read(disk, offset, envblock.SIZE))


def write_state(disk: str, offset: int, state: State) -> None:
    """Replace the state by one write of one sector, flushed, and read it back from the disk.

    Only an environment block is ever overwritten. The control partition must not be mounted.
    Raises StateUnreadable.
    """
    before = _read(disk, offset, envblock.SIZE)
    try:
        sector = sectors.size_of(disk)
    except OSError as error:
        raise StateUnreadable(NOT_READ.format(disk=disk, why=reason_of(error)), FAILING) from None
    if offset % sector:
        raise StateUnreadable(f"Byte {offset} of {disk} is no sector's start. Nothing was written.")
    if not before.startswith(envblock.SIGNATURE):
        raise StateUnreadable(
            f"There is no state block at byte {offset} of {disk}. Nothing was written."
        )
    try:
        block = pack(state)
    except ValueError as reason:
        raise StateUnreadable(
            f"The new state cannot be stored: {reason}. Nothing was written."
        ) from None
    rest = _read(disk, offset, sector)[len(block) :]  # of a 4Kn disk's sector
    try:
        sectors.write(disk, offset, block[:sector] + rest)
    except OSError as error:
        raise StateUnreadable(
            f"The state block of {disk} could not be written: {reason_of(error)}.", FAILING
        ) from None
    if read_state(disk, offset) != state:
        raise StateUnreadable(
            f"The state block of {disk} does not read back as it was written.", FAILING
        )


def _read(disk: str, offset: int, size: int) -> bytes:
    try:
        return sectors.read(disk, offset, size)
    except OSError as error:
        raise StateUnreadable(NOT_READ.format(disk=disk, why=reason_of(error)), FAILING) from None


def _check(pairs: Mapping[str, str], data: bytes) -> None:
    if pairs["format"] != str(FORMAT):
        raise UnknownFormat(
            f"The state block of the DPSR disk has format {pairs['format']}, "
            f"and this version of dpsr knows {FORMAT}."
        )
    if set(data[SECTOR:]) != {ord("#")}:
        raise ValueError("it goes on past its first sector")


def _phase(text: str) -> Phase:
    for phase in PHASES:
        if text == phase:
            return phase
    raise ValueError(f"state is {text!r}")


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise ValueError(f"{text!r} is no number")
    return int(text)
