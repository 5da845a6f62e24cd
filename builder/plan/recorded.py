# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of a routine backup: today's system, and the slots that the DPSR disk has. Pure."""

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Final

from builder.plan.fstab import normal, parse_fstab
from builder.plan.guards import NEEDED, check_blocks, check_disk, find_primary
from builder.plan.identity import CONTROL_LABEL, VAULT_LABEL
from builder.plan.shape import Shape
from builder.plan.volumes import Choice, choose_again
from core.errors import NoSuchVolume, NotPrepared, ShapeChanged
from core.model.copy import Identity, Pair, Plan, Region, Slot, Volume
from core.model.machine import Disk, Machine, Partition
from core.model.manifest import Manifest
from core.settings import BackupSet

_SLOT: Final = "dpsr-slot-"


def plan_update(
    machine: Machine, disk: Disk, known: BackupSet, last: Manifest, fstab: str
) -> tuple[Plan, Shape]:
    """What a backup of the set `known` onto `disk` copies; `last` is what the disk holds now.

    Also how the system's shape has changed, as far as a backup can go on all the same. Raises
    ShapeChanged when it cannot, NotPrepared when the disk's partitions are not those recorded, and
    every refusal of `check_disk` and `choose_again`.
    """
    check_disk(machine, disk, ours=True)
    primary = find_primary(machine)
    places = [volume.mountpoint for volume in known.volume]
    choice, shape = choose_again(machine, primary, places, known.exclude, parse_fstab(fstab))
    if missing := [place for place in shape.new if place in NEEDED]:
        raise ShapeChanged(
            f"{missing[0]} is new and has no place on the DPSR disk: without it the copy would "
            "not start. Nothing was written."
        )
    if gone := [place for place in shape.gone if place in {"/", "/boot/efi", "/efi"}]:
        raise ShapeChanged(f"{gone[0]} went away since the last backup. Nothing was written.")
    for volume in choice.volumes:
        check_blocks(volume, disk)
    slots = _slots(disk, known, last, choice)
    volumes = map(_in_slot, choice.volumes, slots)
    control = known.control_guid, known.control_uuid, CONTROL_LABEL
    plan = Plan(
        name=known.name,
        primary=primary.path,
        disk=disk.path,
        serial=disk.serial,
        wwn=disk.wwn,
        model=disk.model,
        disk_size=disk.size,
        disk_guid=last.disk_guid,
        sector=disk.sector,
        firmware=machine.firmware,
        bios=_region(disk, "dpsr-bios"),
        control=_region(disk, "dpsr-control", *control),
        vault=_region(disk, "dpsr-vault", known.vault_guid, label=VAULT_LABEL),
        volumes=tuple(volumes),
        slots=slots,
        swaps=_swap_pairs(choice, slots),
        swap_files=choice.swap_files,
        left_out=(*choice.left_out, *_without_slot(choice, slots)),
        driver=disk.driver,
        drivers=tuple(dict.fromkeys((*disk.drivers, *primary.drivers))),
        hostname=machine.hostname,
        kernel=machine.kernel,
        exclude=known.exclude,
    )
    return plan, shape


def copy_only(plan: Plan, wanted: Collection[str]) -> Plan:
    """The plan with the volumes at `wanted` alone, and with what they need; all, if none is named.

    Kernel and modules, packages and what is known of them must match: the system is one unit.
    Raises NoSuchVolume.
    """
    places = [volume.mountpoint for volume in plan.volumes]
    chosen = {normal(place) for place in wanted} or set(places)
    if unknown := sorted(chosen - set(places)):
        raise NoSuchVolume(
            f"{unknown[0]} is not in the set {plan.name}. Nothing was written.",
            f"The set is: {', '.join(places)}.",
        )
    # The header of a swap file is made anew with the rest of the system.
    unit = {*NEEDED, *(file.volume for file in plan.swap_files)}
    if chosen & unit:
        chosen |= unit
    return replace(plan, resting=tuple(place for place in places if place not in chosen))


def _slots(disk: Disk, known: BackupSet, last: Manifest, choice: Choice) -> tuple[Slot, ...]:
    """The slots of the volumes in their order, then those of swap, as they are on the disk."""
    new = {pair.new.partuuid: pair for pair in last.pairs}
    guids = {volume.mountpoint: volume.slot_guid for volume in known.volume}
    found = []
    for volume in choice.volumes:
        part = _part(disk, f"the slot of {volume.mountpoint}", guids[volume.mountpoint])
        pair = new.get(part.partuuid)
        if pair is None or pair.fstype != volume.fstype:
            raise ShapeChanged(
                f"{volume.mountpoint} is another file system than the one that the DPSR disk "
                "holds. Nothing was written."
            )
        found.append(_slot(part, pair, volume))
    swaps = [part for part in disk.partitions if part.name.startswith(f"{_SLOT}swap")]
    found += [_slot(part, new[part.partuuid], None) for part in swaps if part.partuuid in new]
    return tuple(found)


def _slot(part: Partition, pair: Pair, volume: Volume | None) -> Slot:
    return Slot(
        name=part.name.removeprefix(_SLOT),
        kind="volume" if volume else "swap",
        mountpoint=volume.mountpoint if volume else "",
        fstype=volume.fstype if volume else "swap",
        number=part.number,
        start=part.start,
        size=part.size,
        identity=pair.new,
    )


def _swap_pairs(choice: Choice, slots: tuple[Slot, ...]) -> tuple[Pair, ...]:
    new = [slot.identity for slot in slots if slot.kind == "swap"]
    return tuple(
        Pair("", "swap", area.identity, identity)
        for area, identity in zip(choice.swaps, new, strict=False)
    )


def _without_slot(choice: Choice, slots: tuple[Slot, ...]) -> Iterable[Identity]:
    """The swap of the primary for which the DPSR disk has no slot."""
    have = sum(slot.kind == "swap" for slot in slots)
    return (area.identity for area in choice.swaps[have:])


def _in_slot(volume: Volume, slot: Slot) -> Volume:
    """The volume as far as it fits: a partition may be larger than the file system in it."""
    return replace(volume, size=min(volume.size, slot.size))


def _region(disk: Disk, name: str, guid: str = "", uuid: str = "", label: str = "") -> Region:
    part = _part(disk, name, guid or _guid_of(disk, name))
    identity = Identity(uuid or part.uuid, label or part.label, part.partuuid, part.name)
    return Region(name, part.number, part.start, part.size, identity)


def _guid_of(disk: Disk, name: str) -> str:
    return next((part.partuuid for part in disk.partitions if part.name == name), "")


def _part(disk: Disk, what: str, guid: str) -> Partition:
    for part in disk.partitions:
        if guid and part.partuuid == guid:
            return part
    raise NotPrepared(
        f"{what[0].upper()}{what[1:]} is not on {disk.path} any more. Nothing was written.",
        "Somebody has changed its partitions: make it anew with `dpsr prepare --again`.",
    )
