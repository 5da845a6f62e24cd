# SPDX-License-Identifier: GPL-3.0-or-later
"""What dpsr adds to the primary's menu, in GRUB itself, before any kernel: the entry and the guard.

The primary is a second disk with GRUB on it, whose menu is put together as grub-mkconfig would.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from core.model.state import State
from core.run import run
from grub import envblock
from grub.guard import Facts, script
from grub.menu import MenuFacts, render
from grub.primary import menu
from grub.state import pack, parse
from images.guest import Guest
from images.vm import Bus, DiskSpec, Firmware
from tests.support import grubdisk
from tests.support.grubdisk import CONTROL, GrubDisk
from tests.support.guard_entry import guard_entry
from tests.support.two_sides import SET

pytestmark = pytest.mark.full

SLOT: Final = "6f2c2b1e-5f0c-4f6a-9c1e-0d5b7a3e9f10"
STATE: Final = State("clean", 12, "2025-11-22T03:00:05+00:00", "0" * 32, slot=SLOT)
COPY: Final = "echo 'the copy was started'\nhalt\n"
GOOD: Final = "echo 'the primary was started'\n  sleep 1\n  halt"
WRECKED: Final = "linux /no/kernel"
HEAD: Final = """\
serial --unit=0 --speed=115200
terminal_input console serial
terminal_output console serial
if [ -s $prefix/grubenv ]; then load_env; fi
if [ "${next_entry}" ]; then
  set default="${next_entry}"
  set next_entry=
  save_env next_entry
else
  set default="0"
fi
"""


def uuid_of(path: Path) -> str:
    asked = ("blkid", "-p", "-O", str(CONTROL[0]), "-o", "value", "-s", "UUID", str(path))
    return run(*asked).strip()


def put(path: Path, name: str, content: bytes) -> None:
    """Replace a file of the first disk's FAT."""
    given = path.with_suffix(".in")
    given.write_bytes(content)
    run("mcopy", "-o", "-i", f"{path}@@{CONTROL[0]}", str(given), f"::{name}")


def env_of(path: Path, name: str) -> dict[str, str]:
    return dict(envblock.decode(grubdisk.read_control(path, name)))


class Two:
    """Both disks, in files."""

    def __init__(self, folder: Path, state: State, entry: str) -> None:
        self.dpsr, self.primary = folder / "dpsr.img", folder / "primary.img"
        looks = render(MenuFacts("web01", "S3X", "6d7c1c4e-0000-4000-8000-00000000d150"))
        slot = {"boot/grub/grub.cfg": COPY}
        grubdisk.make(self.dpsr, GrubDisk(looks, pack(state), slot, SLOT))
        grubdisk.make(self.primary, GrubDisk({}, b"", {"etc/hostname": "web01\n"}, SLOT[:-1] + "1"))
        self.control = uuid_of(self.dpsr)
        self.entry = f"menuentry 'Debian' --id debian {{\n  {entry}\n}}\n"

    def write(self, guard: str = "", once: str = "") -> None:
        so_far = f"{HEAD}{guard}set timeout=2\n{self.entry}"
        again = guard_entry(self.primary.parent, so_far) if guard else ""
        text = so_far + again + menu([replace(SET, control_uuid=self.control)])
        run("grub-script-check", given=text.encode())
        put(self.primary, "grub/grub.cfg", text.encode())
        if once:
            put(self.primary, "grub/grubenv", envblock.encode([("next_entry", once)]))

    def guarded(self, left: int, *, on_esp: bool = False) -> str:
        """Name of the counter's file."""
        esp = uuid_of(self.primary) if on_esp else ""
        name = "EFI/dpsr/guard.env" if on_esp else "grub/guard.env"
        if on_esp:
            run("mmd", "-i", f"{self.primary}@@{CONTROL[0]}", "::EFI/dpsr")
        put(self.primary, name, envblock.encode([("dpsr_left", str(left))]))
        self.write(script(Facts(2, self.control, f"/boot/{name}", esp)))
        return name

    def on(self, firmware: Firmware, disks: Sequence[str] = ("primary", "dpsr")) -> Guest:
        bus: Bus = "nvme" if firmware == "uefi" else "virtio"
        specs = [
            DiskSpec(getattr(self, name), bus, name.upper(), overlay=False, format="raw")
            for name in disks
        ]
        return Guest(specs, firmware, agent=False, memory_mib=256)


BOTH: Final = pytest.mark.parametrize("firmware", ["uefi", "bios"])


@BOTH
def test_the_entry_starts_the_copy_once(folder: Path, firmware: Firmware) -> None:
    two = Two(folder, STATE, GOOD)
    two.write(once="dpsr")
    with two.on(firmware) as guest:
        guest.console.expect(r"Start from the DPSR disk \(backup of 2025-11-22 03:00 UTC\)")
        guest.console.expect("the copy was started")
        guest.wait_off(30)
        guest.power_on()
        guest.console.expect("the primary was started")
        guest.wait_off(30)
    assert env_of(two.primary, "grub/grubenv") == {"next_entry": ""} or not env_of(
        two.primary, "grub/grubenv"
    )


@pytest.mark.parametrize("state", [State("building"), None], ids=["building", "away"])
def test_without_a_complete_copy_the_primary_is_started(folder: Path, state: State | None) -> None:
    two = Two(folder, state or STATE, GOOD)
    two.write(once="dpsr")
    with two.on("bios", ("primary", "dpsr") if state else ("primary",)) as guest:
        guest.console.expect("the primary was started")
        assert "Start from the DPSR disk" not in guest.said
        assert "Press any key" not in guest.said
        guest.wait_off(30)


@pytest.mark.parametrize(("firmware", "on_esp"), [("uefi", True), ("bios", False)])
def test_the_guard_counts_and_then_starts_the_copy_for_good(
    folder: Path, firmware: Firmware, on_esp: bool
) -> None:
    two = Two(folder, STATE, WRECKED)
    counter = two.guarded(2, on_esp=on_esp)
    with two.on(firmware) as guest:
        guest.console.expect("it did not start. Restarting")
        guest.console.expect("it did not start. Restarting")
        guest.console.expect("THE DPSR DISK IS STARTED INSTEAD")
        guest.console.expect("the copy was started", timeout=120)
        guest.wait_off(30)
    assert env_of(two.primary, counter) == {"dpsr_left": "0", "dpsr_over": "1"}


def test_a_person_stops_the_countdown(folder: Path) -> None:
    two = Two(folder, STATE, GOOD)
    counter = two.guarded(0)
    with two.on("bios") as guest:
        guest.console.expect("Press Escape to stop")
        guest.console.send("\x1b")
        guest.console.expect("the primary was started")
        guest.wait_off(30)
    assert env_of(two.primary, counter) == {"dpsr_left": "0"}


def test_the_copys_word_lets_the_primary_start_again_once(folder: Path) -> None:
    two = Two(folder, STATE.with_primary("1"), GOOD)
    counter = two.guarded(0)
    with two.on("bios") as guest:
        guest.console.expect("the primary was started")
        guest.wait_off(30)
    assert env_of(two.primary, counter) == {"dpsr_left": "2"}
    assert parse(grubdisk.read_control(two.dpsr, "dpsr/state")) == STATE


@pytest.mark.parametrize("state", [State("building"), None], ids=["building", "away"])
def test_a_guard_without_a_copy_goes_on(folder: Path, state: State | None) -> None:
    two = Two(folder, state or STATE, GOOD)
    two.guarded(0)
    with two.on("bios", ("primary", "dpsr") if state else ("primary",)) as guest:
        guest.console.expect("Going on")
        guest.console.expect("the primary was started")
        guest.wait_off(30)
