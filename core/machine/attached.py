# SPDX-License-Identifier: GPL-3.0-or-later
"""How a disk hangs on the machine, from sysfs, and how it can be detached from the kernel."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from core.machine.judge import bus_of
from core.model.machine import Bus

SYS: Final = Path("/sys")
_PCI: Final = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
_SCSI: Final = re.compile(r"(\d+):(\d+):(\d+):(\d+)")
_HOST: Final = re.compile(r"host\d+")
_CONTROLLER: Final = re.compile(r"nvme\d+")
_PATH: Final = re.compile(r"c\d+(?=n\d+)")
"""In the name of one path of an NVMe multipath, `nvme0c1n1`: its head is `nvme0n1`."""


@dataclass(frozen=True, slots=True)
class Attached:
    """What sysfs shows. Folders are those behind all links."""

    name: str
    """Of the disk, as the kernel calls it: `sdb`."""
    bus: Bus
    scsi: str = ""
    """Folder of the SCSI device."""
    pci: str = ""
    """Folder of the PCI function that it hangs on."""
    controllers: int = 1
    """NVMe: by how many it is reached."""
    others: tuple[str, ...] = ()
    """Names of the other disks that hang on that PCI function."""


@dataclass(frozen=True, slots=True)
class Way:
    """How a disk is detached and brought back: files of sysfs, and what is written to them."""

    kind: Literal["scsi", "pci", "none"]
    take: str = ""
    """`1` written to it takes the disk away."""
    bring: str = ""
    """`say` written to it brings the disk back."""
    say: str = ""
    pci: str = ""
    """Address of the PCI function above it, which outlasts a restart; empty: there is none."""
    why: str = ""
    """With `none`: why not, as the end of a sentence."""


def attached(name: str, sys: Path = SYS) -> Attached:
    """Look how the disk `name` hangs on the machine. Writes nothing."""
    folder = os.path.realpath(sys / "class/block" / name)
    bus = bus_of(name, folder)
    if bus == "nvme":
        ways = tuple(_controllers(folder))
        pci = _above(ways[0], _PCI) if len(ways) == 1 else ""
        return Attached(name, bus, "", pci, len(ways), tuple(_others(name, pci, sys)))
    pci = _above(folder, _PCI)
    scsi = _above(folder, _SCSI) if bus in {"scsi", "sata", "usb"} else ""
    return Attached(name, bus, scsi, pci, others=() if scsi else tuple(_others(name, pci, sys)))


def way_of(found: Attached) -> Way:
    """How the disk is taken away without harm to anything else; `none` and why, if not. Pure."""
    address = os.path.basename(found.pci)
    if found.scsi:
        host = re.search(rf"/({_HOST.pattern})/", found.scsi)
        numbers = _SCSI.fullmatch(os.path.basename(found.scsi))
        if host is None or numbers is None:
            return Way("none", why="it hangs on no SCSI host")
        return Way(
            "scsi",
            f"{found.scsi}/delete",
            f"/sys/class/scsi_host/{host[1]}/scan",
            " ".join(numbers.groups()[1:]),
            address,
        )
    if found.bus not in {"nvme", "virtio"}:
        return Way("none", why="a disk of its kind cannot be detached")
    if found.controllers != 1:
        return Way("none", why=f"it is reached by {found.controllers} controllers")
    if not found.pci:
        return Way("none", why="its controller is no PCI device")
    if found.others:
        return Way("none", why=f"its controller has {', '.join(found.others)}, too")
    bus = address.rpartition(":")[0]
    return Way("pci", f"{found.pci}/remove", f"/sys/class/pci_bus/{bus}/rescan", "1", address)


def _controllers(folder: str) -> Iterator[str]:
    """Folders of the NVMe controllers by which a namespace is reached."""
    above = os.path.dirname(folder)
    if "/virtual/nvme-subsystem/" not in folder:
        yield above
        return
    for entry in sorted(os.listdir(above)):
        if _CONTROLLER.fullmatch(entry):
            yield os.path.realpath(f"{above}/{entry}")


def _above(folder: str, wanted: re.Pattern[str]) -> str:
    """The nearest folder above whose name is wanted; empty: there is none."""
    while folder not in {"", "/"}:
        if wanted.fullmatch(os.path.basename(folder)):
            return folder
        folder = os.path.dirname(folder)
    return ""


def _others(name: str, pci: str, sys: Path) -> Iterator[str]:
    """Other disks below the PCI function, each once, as people know them."""
    if not pci:
        return
    seen = {name}
    for entry in sorted(os.listdir(sys / "class/block")):
        folder = os.path.realpath(sys / "class/block" / entry)
        called = _PATH.sub("", entry)
        if not folder.startswith(f"{pci}/") or os.path.exists(f"{folder}/partition"):
            continue
        if called not in seen:
            seen.add(called)
            yield called
