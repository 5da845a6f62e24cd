# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that `prepare` refuses, in one guest: a sentence, a hint, a number, nothing written.

Every disk is a throw-away overlay over an image; afterwards each overlay is compared with its
image, byte by byte. A case that needs a mount mounts read-only.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from core.run import run
from images import cache, disks
from images.guest import Guest
from images.job import Result
from images.recipe import Recipe
from images.vm import MIB, DiskSpec
from tests.support import scenario, strange_disks
from tests.support.scenario import PRIMARY

pytestmark = pytest.mark.timeout(1200)

RECIPE: Final = Recipe(13, "uefi", "gpt", bus="scsi")
VOLUMES: Final = (128 + 2814) * MIB
"""ESP and root of that recipe."""
AROUND: Final = (1 + 1 + 256 + 1) * MIB
"""Before the first partition, BIOS boot, vault, after the last."""
LEAST: Final = 264 * MIB
"""The smallest control partition."""
FREE: Final = "FREE0001"


@dataclass(frozen=True)
class Case:
    name: str
    disks: tuple[str, ...]
    """Serial numbers of the disks that it needs."""
    arguments: tuple[str, ...]
    """Of `dpsr prepare`; `{FREE0001}` is the kernel's name of that disk."""
    code: int
    says: str
    before: str = ""
    after: str = ""
    typed: str | None = None
    """At a terminal."""
    user: str = "root"


def yes(*names: str) -> tuple[str, ...]:
    return (*names, "--yes")


CASES: Final = (
    Case("not root", (FREE,), yes(FREE), 11, "must be run as root", user="nobody"),
    Case("no such disk", (FREE,), yes("NOSUCH"), 12, "No disk of this machine is called NOSUCH"),
    Case("two of that name", ("TWIN", "TWIN2"), yes("TWIN"), 13, "TWIN could be any of /dev/"),
    Case("a name for today", (FREE,), yes("{FREE0001}"), 14, "after the next start"),
    Case("the primary", (FREE,), yes(PRIMARY), 15, "is the disk that this system runs from"),
    Case(
        "mounted", ("USED",), yes("USED"), 16, "is mounted at /mnt/x",
        before="mkdir -p /mnt/x; mount -o ro,noload {USED}1 /mnt/x", after="umount /mnt/x",
    ),
    Case(
        "swap", ("USED",), yes("USED"), 17, "is in use as swap",
        before="swapon {USED}2", after="swapoff {USED}2",
    ),
    Case("of an LVM volume group", ("LVM",), yes("LVM"), 18, "belongs to an LVM volume group"),
    Case("of an md array", ("MD",), yes("MD"), 18, "belongs to an md array"),
    Case(
        "under device mapper", (FREE,), yes(FREE), 18, "belongs to device mapper held",
        before="echo 0 2048 linear {FREE0001} 0 | dmsetup create held", after="dmsetup remove held",
    ),
    Case(
        "read-only", (FREE,), yes(FREE), 19, "is read-only",
        before="blockdev --setro {FREE0001}", after="blockdev --setrw {FREE0001}",
    ),
    Case("too small", ("SMALL",), yes("SMALL"), 20, "is too small by"),
    Case("no room for the vault", ("CLOSE",), yes("CLOSE"), 21, "64 MiB are missing"),
    Case("another serial typed", (FREE,), (FREE,), 22, "You typed 'OTHER'", typed="OTHER"),
    Case("nobody to ask", (FREE,), (FREE,), 37, ""),
    Case(
        "a program is missing", (FREE,), yes(FREE), 23, "The program grub-install is missing",
        before="mv /usr/sbin/grub-install /usr/sbin/x",
        after="mv /usr/sbin/x /usr/sbin/grub-install",
    ),
    Case(
        "no snapshots in this kernel", (FREE,), yes(FREE), 24, "This kernel has no",
        before="modprobe -qr dm-snapshot; echo install dm-snapshot /bin/false"
        " > /etc/modprobe.d/x.conf",
        after="rm /etc/modprobe.d/x.conf",
    ),
    Case(
        "a file system that is not copied", (FREE, "XFS"), (*yes(FREE), "--volume", "/mnt/x"), 25,
        "/mnt/x is xfs", before="mkdir -p /mnt/x; mount -o ro,norecovery {XFS}1 /mnt/x",
        after="umount /mnt/x",
    ),
    Case("without the root", (FREE,), (*yes(FREE), "--exclude", "/"), 34, "/ cannot be left out"),
    Case("nothing there", (FREE,), (*yes(FREE), "--volume", "/none"), 34, "mounted at /none"),
    Case(
        "a partition", ("USED",), yes("/dev/disk/by-id/virtio-USED-part1"), 38, "is a partition of",
    ),
    Case("no serial number", (" ",), ("{ }",), 39, "has neither a serial number nor a WWN"),
)  # fmt: skip


@pytest.fixture(scope="module")
def images() -> Iterator[Mapping[str, Path]]:
    """The image under each disk, by serial number."""
    with cache.scratch() as folder:
        big = strange_disks.blank(folder, 5120 * MIB)
        twin = disks.new_disk(folder / "twin.qcow2", 5120 * MIB)
        yield {
            FREE: big, "TWIN": big, "TWIN2": twin, " ": big,
            "SMALL": strange_disks.blank(folder, 2048 * MIB),
            "CLOSE": strange_disks.blank(folder, VOLUMES + AROUND + LEAST - 64 * MIB),
            "SHRUNK": strange_disks.blank(folder, VOLUMES + AROUND + (512 + 88) * MIB),
            "USED": strange_disks.used(folder), "XFS": strange_disks.xfs(folder),
            "LVM": strange_disks.lvm(folder), "MD": strange_disks.md(folder),
        }  # fmt: skip


@pytest.fixture(scope="module")
def guest(images: Mapping[str, Path]) -> Iterator[Guest]:
    with scenario.working(scenario.system(RECIPE)) as guest:
        yield guest


@pytest.fixture
def named(
    request: pytest.FixtureRequest, guest: Guest, images: Mapping[str, Path]
) -> Iterator[Any]:
    """Plugs the disks of a case in; afterwards not one byte of them may differ from its image."""
    serials = request.param.disks if isinstance(request.param, Case) else request.param
    specs = {}
    names = {}
    for serial in serials:
        told = {"TWIN2": "TWIN", " ": ""}.get(serial, serial)
        specs[serial] = DiskSpec(images[serial], "virtio", told)
        known = set(disks_of(guest))
        guest.plug(specs[serial])
        names[serial] = new_disk(guest, known)
    guest.run("udevadm", "settle")
    yield names
    guest.run("udevadm", "settle")
    for serial, spec in specs.items():
        overlay = guest.file_of(spec.serial)
        guest.unplug(spec.serial)
        run("qemu-img", "compare", str(overlay), str(images[serial]), timeout=300)


def disks_of(guest: Guest) -> list[str]:
    return guest.sh("lsblk -dnpo NAME").split()


def new_disk(guest: Guest, known: set[str]) -> str:
    script = 'until lsblk -dnpo NAME | grep -vxF "$1"; do sleep 0.1; done'
    return guest.run("sh", "-c", script, "sh", "\n".join(known), timeout=30).out.strip()


def prepare(guest: Guest, case: Case, arguments: list[str]) -> Result:
    if case.user != "root":
        return guest.run("runuser", "-u", case.user, "--", "dpsr", "prepare", *arguments, ok=None)
    if case.typed is None:
        return scenario.dpsr(guest, "prepare", *arguments)
    command = f"sleep 20; echo {case.typed}"  # the question comes first, then the answer
    inner = " ".join(["dpsr", "prepare", *arguments])
    said = guest.run(
        "sh", "-c", f"({command}) | script -qec '{inner}' /dev/null", timeout=120, ok=None
    )
    return Result(said.status, said.out, said.out)  # a terminal has one stream


@pytest.mark.parametrize(
    ("case", "named"),
    [(case, case) for case in CASES],
    ids=[c.name for c in CASES],
    indirect=["named"],
)
def test_refused(case: Case, named: Mapping[str, str], guest: Guest) -> None:
    def filled(text: str) -> str:
        for serial, path in named.items():
            text = text.replace("{" + serial + "}", path)
        return text

    tables = guest.sh("lsblk -o NAME,SIZE,FSTYPE,UUID,PTUUID")
    if case.before:
        guest.sh(filled(case.before))
    try:
        said = prepare(guest, case, [filled(word) for word in case.arguments])
    finally:
        if case.after:
            guest.sh(filled(case.after))
    assert said.status == case.code, f"{said.status}: {said.out}{said.err}"
    assert "Nothing was written" in said.err
    assert filled(case.says) in " ".join(said.err.split())
    assert "Traceback" not in said.err
    lines = [line for line in said.err.splitlines() if line.strip()]
    assert len(lines) >= 2, f"no hint: {said.err}"
    assert guest.sh("lsblk -o NAME,SIZE,FSTYPE,UUID,PTUUID") == tables
    assert scenario.left_behind(guest) == {}
    assert guest.get(scenario.SETTINGS).decode() == scenario.IN_SIGHT


@pytest.mark.parametrize("named", [("SHRUNK",)], indirect=True)
def test_a_disk_that_is_hardly_larger_gets_less_swap(
    named: Mapping[str, str], guest: Guest
) -> None:
    said = scenario.dpsr(guest, "plan", "SHRUNK", "--json")
    assert said.status == 0, said.err
    plan = json.loads(said.out)
    sizes = {part["name"]: part["size_bytes"] for part in plan["after"]}
    assert sizes["dpsr-slot-swap"] == 88 * MIB, sizes
    assert sizes["dpsr-slot-root"] == 2814 * MIB, sizes
    assert sizes["dpsr-control"] == 512 * MIB, sizes


@pytest.mark.parametrize("named", [(FREE, "USED")], indirect=True)
def test_disks_and_their_roles(named: Mapping[str, str], guest: Guest) -> None:
    guest.sh(f"mkdir -p /mnt/x; mount -o ro,noload {named['USED']}1 /mnt/x")
    try:
        said = scenario.dpsr(guest, "disks", "--json")
        shown = scenario.dpsr(guest, "disks")
    finally:
        guest.sh("umount /mnt/x")
    assert said.status == 0, said.err
    roles = {disk["serial"]: disk["role"] for disk in json.loads(said.out)}
    assert roles == {PRIMARY: "primary", FREE: "free", "USED": "in use"}
    for serial in roles:
        assert serial in shown.out


def test_status_without_a_copy(guest: Guest) -> None:
    said = scenario.dpsr(guest, "status", "--json")
    assert json.loads(said.out)["state"] == "none"
    assert said.status == 70


def test_wrong_usage(guest: Guest) -> None:
    assert scenario.dpsr(guest, "prepare").status == 2
    assert scenario.dpsr(guest, "prepare", FREE, "--no-such-flag").status == 2


def test_every_command_has_help_with_an_example(guest: Guest) -> None:
    for command in ("disks", "plan", "prepare", "fixup", "status", "drill"):
        said = scenario.dpsr(guest, command, "--help")
        assert said.status == 0, said.err
        assert f"dpsr {command}" in said.out.split("Example", 1)[-1], said.out
