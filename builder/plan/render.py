# SPDX-License-Identifier: GPL-3.0-or-later
"""A plan as people read it (80 columns) and as programs do. Pure."""

from itertools import zip_longest
from textwrap import wrap
from typing import Any, Final

from builder.plan.table import rows
from core.model.copy import Identity, Plan, Volume
from core.screen import human

WIDTH: Final = 80
_HALF: Final = 39


def render(plan: Plan) -> str:
    """What is going to happen to the disk: now and then side by side, then what goes where."""
    now = [
        _line(part.number, part.name or part.label, part.size, part.fstype) for part in plan.before
    ]
    then = [_line(row.number, row.name, row.size, _fstype(plan, row.number)) for row in rows(plan)]
    columns = zip_longest(now or ["no partitions"], then, fillvalue="")
    lines = [
        f"DPSR disk  {plan.disk}  {human(plan.disk_size)}  {plan.model}",
        f"           serial {plan.serial or '(none)'}",
        *([f"           WWN {plan.wwn}"] if plan.wwn else []),
        "",
        _beside("Now: all of it is going to be lost", "Then"),
        *(_beside(left, right) for left, right in columns),
        "",
        "Copied while the system runs",
        *(_copied(plan, volume) for volume in plan.volumes),
        *(f"  swap on {pair.old.paths[0]}: a new, empty one" for pair in plan.swaps),
        *(f"  {swap.path}: a new, empty swap file" for swap in plan.swap_files),
    ]
    if plan.left_out:
        lines += ["", "Not copied", *(f"  {_called(known)}" for known in plan.left_out)]
    for warning in plan.warnings:
        lines += ["", *wrap(f"Attention: {warning}", WIDTH, break_long_words=False)]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def to_json(plan: Plan) -> dict[str, Any]:
    """The same for programs; sizes and offsets in bytes."""
    return {
        "name": plan.name,
        "primary": plan.primary,
        "disk": {
            "path": plan.disk,
            "serial": plan.serial,
            "wwn": plan.wwn,
            "model": plan.model,
            "size_bytes": plan.disk_size,
        },
        "firmware": plan.firmware,
        "before": [
            {
                "number": part.number,
                "start_bytes": part.start,
                "size_bytes": part.size,
                "name": part.name,
                "fstype": part.fstype,
                "label": part.label,
            }
            for part in plan.before
        ],
        "after": [
            {
                "number": row.number,
                "start_bytes": row.start,
                "size_bytes": row.size,
                "name": row.name,
                "type": row.kind,
            }
            for row in rows(plan)
        ],
        "volumes": [
            {
                "mountpoint": volume.mountpoint,
                "source": volume.source,
                "fstype": volume.fstype,
                "size_bytes": volume.size,
                "used_bytes": volume.used,
                "slot": plan.slot_of(volume).name,
            }
            for volume in plan.volumes
        ],
        "swap": [{"source": _called(pair.old), "slot": pair.new.partlabel} for pair in plan.swaps],
        "swap_files": [swap.path for swap in plan.swap_files],
        "left_out": [_called(known) for known in plan.left_out],
        "warnings": list(plan.warnings),
    }


def _line(number: int, name: str, size: int, fstype: str) -> str:
    return f"{number:2} {name[:18]:18} {human(size):>10} {fstype[:6]}"


def _beside(left: str, right: str) -> str:
    return f"{left[:_HALF]:{_HALF}}  {right[:_HALF]}"


def _fstype(plan: Plan, number: int) -> str:
    own = {plan.control.number: "vfat", plan.vault.number: "ext4"}
    return own.get(number) or next((s.fstype for s in plan.slots if s.number == number), "")


def _copied(plan: Plan, volume: Volume) -> str:
    number = plan.slot_of(volume).number
    amount = f"{human(volume.used)} of {human(volume.size)}, to partition {number}"
    return f"  {volume.mountpoint:14} {volume.source:14} {volume.fstype:4}  {amount}"


def _called(known: Identity) -> str:
    """The name of a device that says most to people."""
    if known.paths:
        return known.paths[0]
    return known.label or known.uuid or known.partlabel or known.partuuid
