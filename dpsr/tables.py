# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables and documents of the command line. Pure."""

from collections.abc import Sequence
from typing import Any

from core.machine.roles import Role
from core.model.machine import Disk
from core.screen import human

_NAMES = {"dpsr": "DPSR"}


def disk_table(found: Sequence[tuple[Disk, Role]]) -> str:
    """The disks of the machine for people: as wide as its longest words, not wider."""
    head = ("DISK", "MODEL", "SERIAL", "SIZE", "BUS", "ROLE")
    lines = [head, *(_cells(disk, role) for disk, role in found)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    text = "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
    return text + "\n"


def disk_as_json(disk: Disk, role: Role) -> dict[str, Any]:
    """One disk for programs."""
    return {
        "path": disk.path,
        "model": disk.model,
        "serial": disk.serial,
        "wwn": disk.wwn,
        "guid": disk.guid,
        "size_bytes": disk.size,
        "sector_bytes": disk.sector,
        "bus": disk.bus,
        "removable": disk.removable,
        "read_only": disk.read_only,
        "role": role.kind,
        "detail": role.detail,
        "links": list(disk.links),
    }


def _cells(disk: Disk, role: Role) -> tuple[str, ...]:
    name = _NAMES.get(role.kind, role.kind)
    return (
        disk.path,
        disk.model[:28] or "-",
        disk.serial or (f"WWN {disk.wwn}" if disk.wwn else "none"),
        human(disk.size),
        disk.bus,
        f"{name}: {role.detail}" if role.detail else name,
    )
