# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors of a disk of a guest that is on, by QEMU's blkdebug between the disk and its file."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from images.guest import Guest

EIO: Final = 5
_FAULTY: Final = "faulty"
_COUNTED: Final = "counted"
_EVENTS: Final = {"read": "read_aio", "write": "write_aio", "flush": "flush_to_disk"}
"""What blkdebug calls the requests of the node above it."""


@dataclass(frozen=True, slots=True)
class Rule:
    """The next request of these kinds fails; with `once` False each of them."""

    kinds: tuple[str, ...]
    """Of `read`, `write`, `flush`."""
    once: bool = True


@contextmanager
def failing(guest: Guest, serial: str, rule: Rule) -> Iterator[None]:
    """In the block, the virtio disk with this serial number fails by the rule."""
    rules = [
        {"event": "none", "iotype": kind, "once": rule.once, "errno": EIO} for kind in rule.kinds
    ]
    with _between(guest, serial, counted=False, inject_error=rules):
        yield


@contextmanager
def failing_at(guest: Guest, serial: str, number: int) -> Iterator[None]:
    """In the block, request `number` of the disk fails, counted from 1 and from its beginning."""
    states = [
        {"event": event, "state": state, "new_state": state + 1}
        for state in range(1, number + 1)  # past it, too: no other kind of request fails then
        for event in _EVENTS.values()
    ]
    errors = [
        {"event": event, "iotype": kind, "state": number, "once": True, "errno": EIO}
        for kind, event in _EVENTS.items()
    ]
    with _between(guest, serial, counted=True, set_state=states, inject_error=errors):
        yield


def requests(guest: Guest, serial: str) -> int:
    """How many the disk has had up to now."""
    name, _ = _find(guest, serial)
    for each in guest.monitor.command("query-blockstats"):
        if each.get("device") == f"{name}-file":
            stats = each["stats"]
            return sum(int(stats[f"{kind}_operations"]) for kind in ("rd", "wr", "flush"))
    raise AssertionError(f"QEMU has no figures of {name}-file")


@contextmanager
def _between(guest: Guest, serial: str, *, counted: bool, **options: Any) -> Iterator[None]:
    """Put blkdebug between the disk and its file; `counted`: it hears of each request before."""
    device, node = _find(guest, serial)
    monitor = guest.monitor
    monitor.command("blockdev-add", driver="blkdebug", node_name=_FAULTY, image=node, **options)
    if counted:
        monitor.command("blockdev-add", driver="raw", node_name=_COUNTED, file=_FAULTY)
    _attach(guest, device, _COUNTED if counted else _FAULTY)
    try:
        yield
    finally:
        if guest.is_on:
            _attach(guest, device, node)
            for name in (_COUNTED, _FAULTY) if counted else (_FAULTY,):
                monitor.command("blockdev-del", node_name=name)


def _find(guest: Guest, serial: str) -> tuple[str, str]:
    """The device of a disk, and the node that holds its file's content."""
    name = next(drive.name for drive in guest._drives.values() if drive.spec.serial == serial)
    for block in guest.monitor.command("query-block"):
        if block["device"] == f"{name}-file":
            node: str = block["inserted"]["node-name"]
            return name, node
    raise AssertionError(f"QEMU knows no {name}-file")


def _attach(guest: Guest, device: str, node: str) -> None:
    path = f"/machine/peripheral/{device}/virtio-backend"
    guest.monitor.command("qom-set", path=path, property="drive", value=node)
