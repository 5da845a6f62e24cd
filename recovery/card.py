# SPDX-License-Identifier: GPL-3.0-or-later
"""The recovery card: one page to print, for whoever stands in front of the machine that is dead."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from builder import hiding
from builder.control_mount import control_at
from builder.status import copy_we_run_from
from core import settings
from core.errors import CannotWrite, NotPrepared, RunningFromCopy, ToolError
from core.files import LOCK, lock, write_durably
from core.hidden import Away, away_now
from core.machine import dmi
from core.machine.find import find_recorded
from core.machine.look import look
from core.model.machine import Disk, Firmware, Machine
from core.namespace import go_private
from core.screen import Screen, human
from core.settings import BackupSet
from grub.order import LABEL
from recovery.bootkeys import boot_key

_TEMPLATES: Final = Path(__file__).with_name("templates")
ON_DISK: Final = "dpsr/card.html"
"""Where it lies on the control partition."""
_LONGEST: Final = 60
_UNKNOWN: Final = "not known"


@dataclass(frozen=True, slots=True)
class DiskFacts:
    """How a person finds a disk. All of it is untrusted text."""

    model: str
    serial: str
    size: str
    place: str
    """Port or bay, as far as the kernel knows it."""


@dataclass(frozen=True, slots=True)
class CardFacts:
    """All that stands on the card. All of it is untrusted text."""

    host: str
    maker: str
    model: str
    serial: str
    firmware: Firmware
    key: str
    """That opens the boot menu; empty: not known for this maker."""
    entry: str
    """What to choose there, in the firmware's own words."""
    primary: DiskFacts
    dpsr: DiskFacts
    made: datetime


def gather(name: str) -> CardFacts:
    """Look at this machine. Raises NotPrepared, RunningFromCopy, BadSettings, AmbiguousDisk."""
    known = settings.load().named(name)
    machine = look()
    if copy_we_run_from(machine):
        raise RunningFromCopy("The card is made on the primary. Nothing was written.")
    return facts(machine, known, dmi.read(), datetime.now(UTC), away_now(known))


def facts(
    machine: Machine,
    known: BackupSet,
    about: dmi.Dmi,
    made: datetime,
    gone: Away | None = None,
) -> CardFacts:
    """What the card says; `gone`: of a disk that is hidden. Pure."""
    root = machine.mount_at("/")
    primary = machine.disk_of(root.source) if root else None
    found = find_recorded(machine, known.serial, known.wwn, known.guid)
    if found is None and gone is not None:
        found = gone.disk
    copy = _disk(found) if found else None
    recorded = DiskFacts(
        known.model or _UNKNOWN, known.serial or known.wwn, human(known.size), _UNKNOWN
    )
    shown = copy or recorded
    by_bios = " ".join(filter(None, (shown.model, f"({shown.serial})")))
    return CardFacts(
        host=machine.hostname,
        maker=about.maker or about.board_maker,
        model=about.model,
        serial=about.serial,
        firmware=machine.firmware,
        key=boot_key(about),
        entry=LABEL if machine.firmware == "uefi" else by_bios,
        primary=_disk(primary) if primary else DiskFacts(_UNKNOWN, _UNKNOWN, "", _UNKNOWN),
        dpsr=shown,
        made=made,
    )


def _disk(disk: Disk) -> DiskFacts:
    return DiskFacts(
        disk.model or _UNKNOWN, disk.serial or disk.wwn or _UNKNOWN, human(disk.size), place(disk)
    )


def place(disk: Disk) -> str:
    """Where the disk is plugged in, in words, from its links under /dev/disk/by-path. Pure."""
    for link in disk.links:
        name = link.rpartition("/by-path/")[2] if "/by-path/" in link else ""
        if found := re.fullmatch(r".*-ata-(\d+)(?:\.\d+)?", name):
            return f"SATA port {found[1]}"
        if found := re.fullmatch(r"pci-0000:([0-9a-f:.]+)-nvme-\d+", name):
            return f"NVMe, PCI {found[1]}"
        if found := re.fullmatch(r".*-usb-\d+:([\d.]+):.*", name):
            return f"USB port {found[1]}"
        if found := re.fullmatch(r".*-sas-phy(\d+)-.*", name):
            return f"SAS bay {found[1]}"
        if found := re.fullmatch(r".*-scsi-\d+:(\d+):(\d+):(\d+)", name):
            return f"SCSI target {found[2]}, LUN {found[3]}"
    return {"usb": "USB", "nvme": "NVMe", "sata": "SATA", "virtio": "virtual disk"}.get(
        disk.bus, _UNKNOWN
    )


def shown(text: str) -> str:
    """`text` as the page has room for it, without what a printer cannot show."""
    printable = "".join(char if char.isprintable() else "?" for char in " ".join(text.split()))
    return printable if len(printable) <= _LONGEST else printable[: _LONGEST - 1] + "…"


def render(found: CardFacts) -> str:
    """The page: HTML with its pictures in it, nothing to be fetched, everything escaped. Pure."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), undefined=StrictUndefined, autoescape=True
    )
    environment.filters["shown"] = shown
    return environment.get_template("card.html.j2").render(card=found)


def write(name: str, output: Path) -> None:
    """Write the card to a file. Raises what `gather` does, and CannotWrite."""
    page = render(gather(name))
    try:
        write_durably(output, page.encode())
    except OSError as reason:
        raise CannotWrite(
            f"{output} could not be written: {reason.strerror}.", "Name another file by --output."
        ) from None


def keep_on_disk(name: str, screen: Screen) -> None:
    """Put the card onto the control partition, too; what goes wrong is a warning.

    Written beside the one that is there, synced, and renamed: nothing that starts needs it.
    """
    try:
        page = render(gather(name)).encode()
        known = settings.load().named(name)
        with lock(LOCK, "card"), hiding.shown(screen, name):
            go_private()
            machine = look()
            disk = find_recorded(machine, known.serial, known.wwn, known.guid)
            parts = disk.partitions if disk else ()
            control = next((p for p in parts if p.partuuid == known.control_guid), None)
            if control is None:
                raise NotPrepared("The control partition is not there.")
            with control_at(control.path, screen) as folder:
                if not _is(folder / ON_DISK, page):
                    write_durably(folder / ON_DISK, page)
    except (ToolError, OSError) as reason:
        screen.warn(f"The recovery card is not on the DPSR disk: {reason} `dpsr card` makes it.")


def _is(path: Path, page: bytes) -> bool:
    """Whether this page is there already, its date aside."""
    date = re.compile(rb"<time>[^<]*</time>")
    try:
        return date.sub(b"", path.read_bytes()) == date.sub(b"", page)
    except OSError:
        return False
