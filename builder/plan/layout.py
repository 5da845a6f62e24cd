# SPDX-License-Identifier: GPL-3.0-or-later
"""Where everything goes on the DPSR disk. Pure.

One GPT for both firmwares: BIOS boot, control, the slots, the vault. When space is short the swap
slots shrink first, then the control partition, then swap goes; what is left is the vault's.
"""

import re
from dataclasses import dataclass
from itertools import count
from typing import Final

from builder.plan.fstab import parse_fstab
from builder.plan.guards import NEEDED, check_blocks, check_disk, find_primary
from builder.plan.identity import CONTROL_LABEL, VAULT_LABEL, Fresh, identities
from builder.plan.volumes import Choice, SwapArea, choose
from builder.plan.wish import Wish
from core.errors import DiskTooSmall, NoRoomForVault
from core.model.copy import Pair, Plan, Region, Slot, Volume
from core.model.machine import Disk, Machine
from core.screen import human

MIB: Final = 1 << 20
_BIOS: Final = MIB
_CONTROL: Final = 512 * MIB
_CONTROL_LEAST: Final = 264 * MIB
"""With sectors of 4096 bytes fewer clusters than this gives would be no FAT32."""
_SWAP_LEAST: Final = 64 * MIB
_VAULT_LEAST: Final = 256 * MIB
_VAULT_SHARE: Final = 40
"""2.5 % of what is used: 2 for undo logs, the rest for digests, old and new."""
_GPT_ENTRIES: Final = 128 * 128
_NAME_ROOM: Final = 36 - len("dpsr-slot-")
"""A GPT name has 36 characters."""


def make_plan(
    machine: Machine, disk: Disk, wish: Wish, fstab: str, fresh: Fresh, *, ours: bool = False
) -> Plan:
    """All that `prepare` is going to do with `disk`; `fstab` is the text of /etc/fstab.

    `ours`: the disk is recorded as the DPSR disk already. Raises Refused: every refusal of
    `builder.plan.guards` and `builder.plan.volumes`, DiskTooSmall, NoRoomForVault.
    """
    check_disk(machine, disk, ours=ours)
    primary = find_primary(machine)
    choice = choose(machine, primary, wish, parse_fstab(fstab))
    for volume in choice.volumes:
        check_blocks(volume, disk)
    sizes = fit(disk, choice.volumes, choice.swaps)

    fresh.avoid(identities(machine, but_labels_of=disk))
    places = _Places(disk.sector)
    bios = places.region("dpsr-bios", _BIOS, fresh)
    control = places.region("dpsr-control", sizes.control, fresh, "vfat", CONTROL_LABEL)
    names = slot_names(choice, with_swap=bool(sizes.swaps))
    slots = [
        places.slot(name, volume.size, fresh, volume)
        for name, volume in zip(names, choice.volumes, strict=False)
    ]
    swaps = [
        places.slot(name, size, fresh, None)
        for name, size in zip(names[len(slots) :], sizes.swaps, strict=True)
    ]
    vault_size = _end(disk) - places.position
    vault = places.region("dpsr-vault", vault_size, fresh, "ext4", VAULT_LABEL)
    dropped = () if sizes.swaps else tuple(area.identity for area in choice.swaps)
    return Plan(
        name=wish.name,
        primary=primary.path,
        disk=disk.path,
        serial=disk.serial,
        wwn=disk.wwn,
        model=disk.model,
        disk_size=disk.size,
        disk_guid=fresh.uuid(),
        sector=disk.sector,
        firmware=machine.firmware,
        bios=bios,
        control=control,
        vault=vault,
        volumes=choice.volumes,
        slots=(*slots, *swaps),
        swaps=tuple(
            Pair("", "swap", area.identity, slot.identity)
            for area, slot in zip(choice.swaps, swaps, strict=False)
        ),
        swap_files=choice.swap_files,
        left_out=(*choice.left_out, *dropped),
        driver=disk.driver,
        drivers=tuple(dict.fromkeys((*disk.drivers, *primary.drivers))),
        warnings=(*choice.warnings, *sizes.warnings, *_lost(disk)),
        before=disk.partitions,
        hostname=machine.hostname,
        kernel=machine.kernel,
        exclude=choice.exclude,
    )


@dataclass(frozen=True, slots=True)
class Sizes:
    """What gives way when space is short."""

    control: int
    swaps: tuple[int, ...]
    """Empty when there is no room for any."""
    warnings: tuple[str, ...] = ()


def fit(disk: Disk, volumes: tuple[Volume, ...], swaps: tuple[SwapArea, ...]) -> Sizes:
    """Sizes of the control partition and the swap slots. Raises DiskTooSmall, NoRoomForVault."""
    taken = MIB + _BIOS + sum(_up(volume.size) for volume in volumes)
    vault = _up(max(_VAULT_LEAST, sum(volume.used for volume in volumes) // _VAULT_SHARE))
    room = _end(disk) - taken - vault
    """For control and swap together."""
    full = tuple(_up(swap.size) for swap in swaps)
    least = tuple(min(size, _SWAP_LEAST) for size in full)
    if room >= _CONTROL + sum(full):
        return Sizes(_CONTROL, full)
    if room >= _CONTROL + sum(least):
        return Sizes(_CONTROL, _shrunk(full, least, room - _CONTROL))
    if room >= _CONTROL_LEAST + sum(least):
        return Sizes(room - sum(least), least)
    if room >= _CONTROL_LEAST:
        no_swap = "There is no room for swap on the DPSR disk: the copy starts without."
        return Sizes(min(room, _CONTROL), (), (no_swap,))
    raise _too_small(disk, volumes, _CONTROL_LEAST - room, fits_alone=taken <= _end(disk))


def slot_names(choice: Choice, *, with_swap: bool = True) -> list[str]:
    """A name for each volume's slot (`root`, `boot`, `efi`, `home`), then for each swap slot."""
    wanted = [_slot_name(volume.mountpoint) for volume in choice.volumes]
    wanted += ["swap"] * (len(choice.swaps) if with_swap else 0)
    names: list[str] = []
    for name in wanted:
        tries = (name if n == 1 else f"{name[: _NAME_ROOM - len(str(n))]}{n}" for n in count(1))
        names.append(next(word for word in tries if word not in names))
    return names


def _slot_name(mountpoint: str) -> str:
    if mountpoint == "/":
        return "root"
    if mountpoint in {"/boot/efi", "/efi"}:
        return "efi"
    word = re.sub(r"[^a-z0-9]+", "-", mountpoint.lower()).strip("-")
    return word[:_NAME_ROOM].rstrip("-") or "volume"


class _Places:
    """Hands out partition numbers and places, one after the other."""

    def __init__(self, sector: int) -> None:
        self._sector = sector
        self._number = 0
        self.position = MIB

    def region(
        self, name: str, size: int, fresh: Fresh, fstype: str = "", label: str = ""
    ) -> Region:
        number, start = self._take(size)
        return Region(name, number, start, size, fresh.identity(name, fstype, label))

    def slot(self, name: str, size: int, fresh: Fresh, volume: Volume | None) -> Slot:
        size = -(-size // self._sector) * self._sector
        number, start = self._take(size)
        fstype = volume.fstype if volume else "swap"
        return Slot(
            name=name,
            kind="volume" if volume else "swap",
            mountpoint=volume.mountpoint if volume else "",
            fstype=fstype,
            number=number,
            start=start,
            size=size,
            identity=fresh.identity(f"dpsr-slot-{name}", fstype),
        )

    def _take(self, size: int) -> tuple[int, int]:
        self._number += 1
        start = self.position
        self.position = _up(start + size)
        return self._number, start


def _up(size: int) -> int:
    """Rounded up to whole MiB, where the next partition may begin."""
    return -(-size // MIB) * MIB


def _end(disk: Disk) -> int:
    """Where the last partition must end: before the backup of the GPT, at a whole MiB."""
    return (disk.size - _GPT_ENTRIES - disk.sector) // MIB * MIB


def _shrunk(full: tuple[int, ...], least: tuple[int, ...], room: int) -> tuple[int, ...]:
    """Sizes between `least` and `full` that take `room` together; the largest gives first."""
    sizes = list(full)
    over = sum(full) - room
    for at in sorted(range(len(full)), key=lambda at: full[at], reverse=True):
        given = min(over, sizes[at] - least[at])
        sizes[at] -= given
        over -= given
    return tuple(sizes)


def _lost(disk: Disk) -> tuple[str, ...]:
    """What the list of the disk's partitions does not show."""
    if not disk.fstype:
        return ()
    named = f" ({disk.label})" if disk.label else ""
    return (f"{disk.path} holds a file system without partitions: {disk.fstype}{named}.",)


def _too_small(
    disk: Disk, volumes: tuple[Volume, ...], short: int, *, fits_alone: bool
) -> DiskTooSmall | NoRoomForVault:
    """The refusal: by how many MiB, and what could be left out."""
    spare = sorted(
        (volume for volume in volumes if volume.mountpoint not in NEEDED),
        key=lambda volume: volume.size,
    )
    enough = [volume for volume in spare if _up(volume.size) >= short]
    if enough:
        advice = f"Without {_told(enough[0])} it would fit: --exclude {enough[0].mountpoint}"
    elif spare and sum(_up(volume.size) for volume in spare) >= short:
        advice = f"It would fit without {' and '.join(map(_told, spare))} (--exclude)."
    else:
        advice = "Use a larger disk: nothing that could be left out is large enough."
    mib = -(-short // MIB)
    total = human(sum(volume.size for volume in volumes))
    if not fits_alone:
        return DiskTooSmall(
            f"{disk.path} ({human(disk.size)}) is too small by {mib} MiB for the volumes of this "
            f"system ({total}), the control partition and the vault. Nothing was written.",
            advice,
        )
    return NoRoomForVault(
        f"{disk.path} ({human(disk.size)}) holds the volumes of this system ({total}), but "
        f"{mib} MiB are missing for the control partition and the vault. Nothing was written.",
        advice,
    )


def _told(volume: Volume) -> str:
    return f"{volume.mountpoint} ({human(volume.size)})"
