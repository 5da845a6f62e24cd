# SPDX-License-Identifier: GPL-3.0-or-later
"""The power fails while shim and GRUB are put on the control partition: it starts all the same.

A real guest's FAT, every write of it recorded; the disk is rebuilt as any cut may have left it.
"""

import random
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import pytest

from builder.control_mount import sound
from core.run import run, run_bytes
from grub import signed
from images import cache, sample
from images.recipe import Recipe
from images.vm import DiskSpec
from tests.support import flush_log
from tests.support.flush_log import plug_recorded
from tests.support.power_cut import HOWS, Write, surviving
from tests.support.push import FOLDER, push_rooms
from tests.support.scenario import DPSR
from tests.support.uefi_program import program
from tests.support.vault_disk import Silent

pytestmark = [pytest.mark.full, pytest.mark.timeout(2400)]

MIB: Final = 1 << 20
ROUNDS: Final = 3
"""Random subsets of each window, besides all, none, the last, all others."""
UNSIGNED: Final = b"GRUB without a signature" * 9000

PUT: Final = """
import sys
from pathlib import Path
from builder.control_mount import control_at
from core.screen import screen_for
from grub import signed

found = signed.find(Path("/run/none"), Path(sys.argv[2]))
with control_at(sys.argv[1], screen_for("plain")) as control:
    print(*signed.put(control, found))
"""


def programs(seed: int) -> dict[str, bytes]:
    """By their name in an ESP: of one version, none as long as another."""
    dice = random.Random(seed)
    return {
        "shimx64.efi": program(dice.randbytes(200_000 + seed * 7000)),
        "mmx64.efi": program(dice.randbytes(150_000)),
        "grubx64.efi": program(signed.PREFIX + dice.randbytes(500_000 + seed)),
    }


ON_DISK: Final = {"BOOTX64.EFI": "shimx64.efi", "mmx64.efi": "mmx64.efi",
                  "grubx64.efi": "grubx64.efi"}  # fmt: skip
FIRST, SECOND = programs(1), programs(2)


@pytest.fixture
def folder() -> Iterator[Path]:
    with cache.scratch() as path:
        yield path


def test_a_cut_at_any_instant_leaves_a_loader(folder: Path) -> None:
    raw, log = folder / "control.raw", folder / "log.raw"
    with raw.open("wb") as stream:
        stream.truncate(80 * MIB)
    run("mkfs.fat", "-F", "32", "-s", "1", str(raw))
    run("mmd", "-i", str(raw), "::EFI", "::EFI/BOOT")
    run("mcopy", "-i", str(raw), "-", "::EFI/BOOT/BOOTX64.EFI", given=UNSIGNED)
    before = raw.read_bytes()
    spec = DiskSpec(raw, "scsi", DPSR, overlay=False, format="raw")
    with sample.booted(sample.build(Recipe(13, "uefi", "gpt", bus="scsi"), print)) as guest:
        push_rooms(guest)
        guest.put("/run/put.py", PUT)
        guest.disks.append(spec)
        plug_recorded(guest, raw, log)
        device = guest.wait_disk(DPSR)
        for number, version in enumerate((FIRST, SECOND)):
            esp = f"/run/esp-{number}"
            guest.sh(f"mkdir -p {esp}/EFI/debian")
            for name, data in version.items():
                guest.put(f"{esp}/EFI/debian/{name}", data)
            said = guest.sh(
                f"cd {FOLDER}; PYTHONPATH=. python3 /run/put.py {device} {esp}", timeout=300
            )
            assert len(said.split()) == 3, said
        end = flush_log.length(guest, log)
        guest.pull_power()
    count = cut_everywhere(before, flush_log.windows(log, 0, end), folder)
    sys.stdout.write(f"{count} cuts\n")
    assert count > 100


def cut_everywhere(base: bytes, windows: Iterable[flush_log.Window], folder: Path) -> int:
    dice = random.Random(1)
    sure = bytearray(base)
    seen: set[tuple[str, ...]] = set()
    count = 0
    for window in windows:
        for how in (*HOWS, *HOWS[-1:] * ROUNDS):
            loose = list(surviving(window.writes, how, dice))
            seen.add(what_is_left(sure, loose, folder / "cut"))
            count += 1
        for write in window.writes:
            sure[write.offset : write.offset + len(write.data)] = write.data
    last = what_is_left(sure, [], folder / "cut")
    assert last == ("second", "second", "second")
    assert ("none", "none", "unsigned") in seen
    assert ("first", "first", "first") in seen
    return count


def what_is_left(sure: bytearray, loose: Iterable[Write], path: Path) -> tuple[str, ...]:
    """Which version grubx64, mmx64 and what firmware starts are of, also after a check."""
    image = bytearray(sure)
    for write in loose:
        image[write.offset : write.offset + len(write.data)] = write.data
    path.write_bytes(image)
    found = versions(path)
    grub, keys, first = found
    assert first in {"unsigned", "first", "second"}, found
    if first != "unsigned":
        assert {grub, keys} <= {"first", "second"}, found
        assert not (first == "second" and grub == "first"), "a new shim may refuse an old GRUB"
    sound(str(path), Silent())
    assert versions(path) == found, "the check took something away"
    return found


def versions(path: Path) -> tuple[str, ...]:
    return tuple(version(path, name) for name in ("grubx64.efi", "mmx64.efi", "BOOTX64.EFI"))


def version(path: Path, name: str) -> str:
    listed = run("mdir", "-b", "-i", str(path), "::EFI/BOOT")
    if f"/{name}".lower() not in listed.lower():
        return "none"
    data = run_bytes("mtype", "-i", str(path), f"::EFI/BOOT/{name}")
    for word, of in (("first", FIRST), ("second", SECOND)):
        if data == of[ON_DISK[name]]:
            return word
    if data == UNSIGNED and name == "BOOTX64.EFI":
        return "unsigned"
    return "empty" if not data else "damaged"
