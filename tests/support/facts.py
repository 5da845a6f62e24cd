# SPDX-License-Identifier: GPL-3.0-or-later
"""What a running guest says of itself: which disk it lives on, and whose names it still knows."""

import gzip
import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

from images.guest import Guest

_ASK: Final = r"""
import glob, json, os, subprocess

def say(*argv):
    done = subprocess.run(argv, capture_output=True, text=True)
    return done.stdout.strip()

def read(path):
    try:
        with open(path, errors="replace") as stream:
            return stream.read()
    except OSError:
        return None

TEXTS = ["/proc/cmdline", "/etc/fstab", "/etc/crypttab", "/boot/grub/grub.cfg", "/etc/default/grub",
         "/etc/kernel/cmdline", "/boot/efi/EFI/debian/grub.cfg", "/boot/grub/grubenv",
         *glob.glob("/etc/default/grub.d/*"), *glob.glob("/etc/initramfs-tools/conf.d/*"),
         *glob.glob("/boot/loader/entries/*"), *glob.glob("/efi/EFI/debian/grub.cfg")]
blocks = json.loads(say("lsblk", "--json", "--list", "--output",
                        "PATH,PKNAME,TYPE,SERIAL,FSTYPE,UUID,PARTUUID,MOUNTPOINTS,SIZE,MAJ:MIN"))
mounts = json.loads(say("findmnt", "--json", "--list", "--real", "--output",
                        "TARGET,SOURCE,FSTYPE,UUID,OPTIONS"))
print(json.dumps({
    "system": say("systemctl", "is-system-running", "--wait"),
    "failed": say("systemctl", "list-units", "--failed", "--plain", "--no-legend"),
    "kernel": os.uname().release,
    "blocks": blocks["blockdevices"],
    "mounts": mounts["filesystems"],
    "swaps": say("swapon", "--show=NAME", "--noheadings", "--raw").split(),
    "texts": {path: text for path in TEXTS if (text := read(path)) is not None},
    "debconf": say("debconf-show", "grub-pc", "grub-efi-amd64"),
    "resume": (read("/sys/power/resume") or "").strip(),
    "nvram": say("efibootmgr", "-v") if os.path.isdir("/sys/firmware/efi") else "",
    "uefi": os.path.isdir("/sys/firmware/efi"),
    "log": say("journalctl", "-b", "-p", "err", "--no-pager", "-q"),
}))
"""


@dataclass(frozen=True, slots=True)
class Facts:
    """One look at a running system."""

    system: str
    failed: str
    kernel: str
    blocks: list[dict[str, Any]]
    mounts: list[dict[str, Any]]
    swaps: list[str]
    texts: dict[str, str]
    debconf: str
    resume: str
    nvram: str
    uefi: bool
    log: str

    def disk_of(self, path: str) -> str:
        """Serial number of the disk that a block device lies on."""
        name = path.removeprefix("/dev/")
        while True:
            found = next((b for b in self.blocks if b["path"] == f"/dev/{name}"), None)
            assert found is not None, f"lsblk does not know {path}: {self.blocks}"
            if found["type"] == "disk":
                return str(found["serial"])
            name = found["pkname"]

    def faults(self, serial: str, where: Collection[str], swaps: int) -> list[str]:
        """What does not run from the disk `serial`; `where`: mount points that must be there.

        `swaps`: how many swap partitions are in use.
        """
        wrong = []
        if self.system != "running" or self.failed:
            wrong.append(f"the system is {self.system}: {self.failed}\n{self.log}")
        on = {mount["target"]: mount["source"] for mount in self.mounts}
        wrong += [f"nothing is mounted at {path}: {on}" for path in where if path not in on]
        for path, source in on.items():
            if source.startswith("/dev/") and self.disk_of(source) != serial:
                wrong.append(f"{path} is {source}, on the disk {self.disk_of(source)}")
        areas = [path for path in self.swaps if path.startswith("/dev/")]
        wrong += [
            f"swap on {path}, on the disk {self.disk_of(path)}"
            for path in areas
            if self.disk_of(path) != serial
        ]
        if len(areas) != swaps:
            wrong.append(f"swap partitions in use: {self.swaps}, not {swaps}")
        return wrong

    def names(self, old: Collection[str]) -> list[str]:
        """Where any of the `old` names (UUIDs, GUIDs, serial numbers) is still known."""
        texts = self.texts | {"debconf": self.debconf}
        return [
            f"{name} is in {place}: {_line(text, name)}"
            for name in old
            for place, text in texts.items()
            if name.lower() in text.lower()
        ]

    def entries(self) -> list[tuple[str, str]]:
        """The firmware's boot entries in boot order: number and the rest of the line."""
        known = dict(re.findall(r"^Boot([0-9A-F]{4})\*? (.*)$", self.nvram, re.MULTILINE))
        order = re.search(r"^BootOrder: (.*)$", self.nvram, re.MULTILINE)
        return [(number, known[number]) for number in order[1].split(",")] if order else []

    def entry(self, label: str) -> str:
        """Number of the firmware's entry of this name."""
        found = [number for number, text in self.entries() if text.startswith(label)]
        assert len(found) == 1, f"{label} is there {len(found)} times:\n{self.nvram}"
        return found[0]


def ask(guest: Guest) -> Facts:
    """Look at the system in `guest`, once it has started."""
    said = guest.run("python3", "-c", _ASK, timeout=300)
    return Facts(**json.loads(said.out))


def _line(text: str, name: str) -> str:
    return next(line.strip() for line in text.splitlines() if name.lower() in line.lower())


FILES: Final = r"""
list() { find "$1" -xdev -printf '%p\t%y %m %U:%G %s %C@ %l\n'; }
list /
if mountpoint -q /boot; then list /boot; fi
"""


def files(guest: Guest) -> dict[str, str]:
    """Every name on the ext4 file systems of the guest, with what tells a change."""
    guest.sh(f"({FILES}) | gzip -1 > /run/files.gz", timeout=300)
    text = gzip.decompress(guest.get("/run/files.gz")).decode("utf-8", "replace")
    return dict(line.split("\t", 1) for line in text.splitlines() if "\t" in line)


def changed(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Names that came, went or changed; folders whose entries alone changed are left out."""

    def seen(entry: str | None) -> str:
        words = (entry or "").split()
        return " ".join(words[:3] if words[:1] == ["d"] else words)

    return sorted(
        path
        for path in before.keys() | after.keys()
        if seen(before.get(path)) != seen(after.get(path))
    )
