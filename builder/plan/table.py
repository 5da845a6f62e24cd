# SPDX-License-Identifier: GPL-3.0-or-later
"""The partition table of a plan: as sfdisk writes it, and compared with what a disk holds. Pure."""

from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from core.model.copy import Identity, Plan, Region, Slot
from core.model.machine import Disk, Machine, Partition

Part = TypeVar("Part", Region, Slot)

BIOS_BOOT: Final = "21686148-6449-6e6f-744e-656564454649"
ESP: Final = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
LINUX: Final = "0fc63daf-8483-4772-8e79-3d69d8477de4"
BASIC_DATA: Final = "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7"
"""Of FAT slots: firmware looks for loaders on ESPs only, and must not look there."""
SWAP: Final = "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f"


@dataclass(frozen=True, slots=True)
class Row:
    """One partition; `start` and `size` in bytes, GUIDs in lower case."""

    number: int
    start: int
    size: int
    kind: str
    partuuid: str
    name: str
    hidden: bool
    """GPT attribute 63: nothing mounts it, and no swap is taken from it, by itself."""


def rows(plan: Plan) -> tuple[Row, ...]:
    """The partitions of the DPSR disk in the order of their numbers."""
    found = [
        _row(plan.bios, BIOS_BOOT, hidden=False),
        _row(plan.control, ESP, hidden=False),
        *(_row(slot, _kind(slot), hidden=True) for slot in plan.slots),
        _row(plan.vault, LINUX, hidden=True),
    ]
    return tuple(sorted(found, key=lambda row: row.number))


def script(plan: Plan) -> str:
    """What sfdisk is given: the whole table with all identities, to be written at once."""
    lines = ["label: gpt", f"label-id: {plan.disk_guid}", "unit: sectors", ""]
    for row in rows(plan):
        hidden = ', attrs="GUID:63"' if row.hidden else ""
        lines.append(
            f"{row.number} : start={row.start // plan.sector}, size={row.size // plan.sector}, "
            f'type={row.kind}, uuid={row.partuuid}, name="{row.name}"{hidden}'
        )
    return "\n".join(lines) + "\n"


def read_back(dump: dict[str, Any], sector: int) -> tuple[str, tuple[Row, ...]]:
    """The disk's GUID and partitions from what `sfdisk --json` prints.

    `sector`: logical sector size of the disk. Raises KeyError when the dump is of no GPT.
    """
    table = dump["partitiontable"]
    found = []
    for entry in table["partitions"]:
        digits = entry["node"][len(entry["node"].rstrip("0123456789")) :]
        found.append(
            Row(
                number=int(digits),
                start=entry["start"] * sector,
                size=entry["size"] * sector,
                kind=entry["type"].lower(),
                partuuid=entry["uuid"].lower(),
                name=entry.get("name", ""),
                hidden="GUID:63" in entry.get("attrs", ""),
            )
        )
    return table["id"].lower(), tuple(found)


def same_layout(plan: Plan, disk: Disk) -> bool:
    """Whether `disk` is partitioned just as `plan` asks, but for the identities."""
    wanted = [(row.number, row.start, row.size, row.kind, row.name) for row in rows(plan)]
    found = [(part.number, part.start, part.size, part.kind, part.name) for part in disk.partitions]
    return disk.table == "gpt" and wanted == found


def adopt(_machine: Machine, disk: Disk, plan: Plan) -> Plan | None:
    """`plan` with the identities that are on `disk` already, when its layout is ours and equal.

    None when it is another layout, or when control partition, vault or swap have no file system
    of ours yet: then there is nothing to go on with.
    """
    if not same_layout(plan, disk):
        return None
    on_disk = {part.number: part for part in disk.partitions}
    control, vault = on_disk[plan.control.number], on_disk[plan.vault.number]
    swaps = [on_disk[slot.number] for slot in plan.slots if slot.kind == "swap"]
    made = [(control, "vfat"), (vault, "ext4"), *((part, "swap") for part in swaps)]
    if not all(part.fstype == fstype and part.uuid for part, fstype in made):
        return None
    if control.label != plan.control.identity.label or vault.label != plan.vault.identity.label:
        return None
    slots = tuple(_adopted(slot, on_disk[slot.number]) for slot in plan.slots)
    new_of_swap = iter(slot.identity for slot in slots if slot.kind == "swap")
    return replace(
        plan,
        disk_guid=disk.guid,
        bios=_adopted(plan.bios, on_disk[plan.bios.number]),
        control=_adopted(plan.control, control),
        vault=_adopted(plan.vault, vault),
        slots=slots,
        swaps=tuple(replace(pair, new=next(new_of_swap)) for pair in plan.swaps),
    )


def _row(part: Region | Slot, kind: str, *, hidden: bool) -> Row:
    name = part.identity.partlabel
    return Row(part.number, part.start, part.size, kind, part.identity.partuuid, name, hidden)


def _kind(slot: Slot) -> str:
    if slot.kind == "swap":
        return SWAP
    return BASIC_DATA if slot.fstype == "vfat" else LINUX


def _adopted(part: Part, found: Partition) -> Part:
    return replace(part, identity=_identity(part.identity, found))


def _identity(planned: Identity, found: Partition) -> Identity:
    """That of the partition; of its file system as far as it has one that carries our label."""
    ours = found.uuid != "" and found.label == planned.label
    return replace(planned, partuuid=found.partuuid, uuid=found.uuid if ours else planned.uuid)
