# SPDX-License-Identifier: GPL-3.0-or-later
"""The DPSR disk's menu in GRUB itself, before any kernel: each state, each way to start the copy.

The slots hold a boot menu as Debian writes it, and no module of GRUB at all: what is loaded comes
from the control partition, or the test ends in an error.
"""

import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

from core.model.state import State
from grub import envblock
from grub.menu import MenuFacts, render
from grub.state import pack, parse
from images.guest import Guest
from images.vm import Bus, DiskSpec, Firmware
from tests.support import grubdisk
from tests.support.grubdisk import GrubDisk

pytestmark = pytest.mark.full

GUID: Final = "6d7c1c4e-0000-4000-8000-00000000d150"
SLOT: Final = "6f2c2b1e-5f0c-4f6a-9c1e-0d5b7a3e9f10"
CLEAN: Final = State(
    state="clean", gen=12, taken="2025-11-22T03:00:05+00:00", txid="0" * 32, slot=SLOT
)
LONGER_THAN_THE_COUNTDOWN: Final = 8.0
DOWN: Final = "\x1b[B"
UP: Final = "\x1b[A"

# As Debian's grub-mkconfig with GRUB_DEFAULT=saved and GRUB_SAVEDEFAULT=true.
COPY_MENU: Final = """\
if [ -s $prefix/grubenv ]; then
  set have_grubenv=true
  load_env
fi
set default="${saved_entry}"
function savedefault {
  saved_entry="${chosen}"
  save_env saved_entry
}
search --no-floppy --fs-uuid --set=root SLOT
insmod hello
set timeout=2
menuentry 'Debian' --id simple {
  savedefault
  hello
  echo "the copy was started: simple"
  halt
}
submenu 'Advanced' --id advanced {
  menuentry 'older kernel' --id older {
    savedefault
    hello
    echo "the copy was started: older"
    halt
  }
}
""".replace("SLOT", SLOT)


def disk(
    folder: Path,
    state: bytes,
    slot: Mapping[str, str] | None = None,
    more: Mapping[str, bytes] | None = None,
) -> Path:
    path = folder / "dpsr.img"
    menu = {**render(MenuFacts("web01", "S3X-1234567", GUID)), **(more or {})}
    grubdisk.make(path, GrubDisk(menu, state, slot or {"boot/grub/grub.cfg": COPY_MENU}, SLOT))
    return path


def machine(path: Path, firmware: Firmware, *extra: str) -> Guest:
    bus: Bus = "nvme" if firmware == "uefi" else "virtio"
    spec = DiskSpec(path, bus, "S3X-1234567", overlay=False, format="raw")
    return Guest([spec], firmware, agent=False, memory_mib=256, extra=extra)


def saved_entry(block: bytes) -> str:
    return dict(envblock.decode(block)).get("saved_entry", "")


@pytest.mark.parametrize("firmware", ["uefi", "bios"])
def test_a_clean_copy_starts_by_itself_with_the_entry_that_it_last_ran(
    folder: Path, firmware: Firmware
) -> None:
    remembered = envblock.encode([("saved_entry", "advanced>older")]).decode()
    path = disk(
        folder,
        pack(CLEAN),
        {"boot/grub/grub.cfg": COPY_MENU, "boot/grub/grubenv": remembered},
    )
    with machine(path, firmware) as guest:
        guest.console.expect(r"Start the copy of 2025-11-22 03:00 UTC \(generation 12\)")
        guest.console.expect("executed automatically in 4s")
        guest.screendump(folder / "menu.png")
        guest.console.expect("Hello World")
        guest.console.expect("the copy was started: older")
        guest.wait_off(30)
    assert parse(grubdisk.read_control(path, "dpsr/state")) == dataclasses.replace(
        CLEAN, booted=True
    )
    assert saved_entry(grubdisk.read_control(path, "grub/grubenv")) == "advanced>older"
    assert (folder / "menu.png").read_bytes().startswith(b"\x89PNG")


def test_a_person_may_take_time_and_what_is_saved_is_not_ours(folder: Path) -> None:
    """/boot is a file system of its own here: the copy's menu lies in /grub."""
    path = disk(folder, pack(CLEAN), {"grub/grub.cfg": COPY_MENU})
    with machine(path, "bios") as guest:
        guest.console.expect("executed automatically")
        guest.console.send(DOWN)
        guest.console.send(UP)
        time.sleep(LONGER_THAN_THE_COUNTDOWN)
        assert "Booting" not in guest.said
        guest.console.send("\r")
        guest.console.expect("the copy was started: simple")
        guest.wait_off(30)
    assert saved_entry(grubdisk.read_control(path, "grub/grubenv")) == "simple"


def test_a_drill_waits_for_nobody(folder: Path) -> None:
    path = disk(folder, pack(CLEAN))
    with machine(path, "bios", "-smbios", "type=1,family=dpsr-drill") as guest:
        guest.console.expect("DPSR disk S3X-1234567 of web01: clean, generation 12 of 2025")
        guest.console.expect("the copy was started: simple")
        # the second countdown is that of the copy's own menu
        assert "automatically in 5s" not in guest.said
        guest.wait_off(30)


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (pack(State("building")), "THERE IS NO COMPLETE COPY ON IT YET"),
        (pack(State("building", slot=SLOT)), "dpsr prepare S3X-1234567"),
        (pack(dataclasses.replace(CLEAN, state="updating")), "AN UPDATE OF THE COPY WAS"),
        (pack(CLEAN).replace(b"format=1", b"format=2"), "WHAT IT HOLDS CANNOT BE READ"),
        (bytes(1024), "WHAT IT HOLDS CANNOT BE READ"),
        (b"", "WHAT IT HOLDS CANNOT BE READ"),
    ],
    ids=["building", "building-again", "updating", "newer-format", "zeroes", "empty"],
)  # fmt: skip
def test_what_is_no_complete_copy_is_never_started(folder: Path, state: bytes, said: str) -> None:
    path = disk(folder, state)
    with machine(path, "bios") as guest:
        guest.console.expect("read more")
        time.sleep(LONGER_THAN_THE_COUNTDOWN)
        assert "Booting" not in guest.said
        guest.console.send("\r")
        guest.console.expect(said)
        guest.console.expect("Press Escape")
        guest.console.send("\x1b")
        guest.console.expect("read more")
        assert "the copy was started" not in guest.said
    assert grubdisk.read_control(path, "dpsr/state") == state


def test_an_interrupted_update_goes_to_the_rescue_system_where_there_is_one(folder: Path) -> None:
    """What it does then is the rescue system's own test; this one is no kernel, and says so."""
    rescue = {"dpsr/r-1/vmlinuz": b"no kernel", "dpsr/r-1/initrd.img": b"none"}
    state = dataclasses.replace(CLEAN, state="updating").with_rescue("1")
    path = disk(folder, pack(state), more=rescue)
    with machine(path, "bios") as guest:
        guest.console.expect("Booting `Repair the copy and start it'")
        guest.console.expect(r"error: .*\.")
        assert "the copy was started" not in guest.said


def test_a_copy_that_is_gone_ends_in_a_sentence_and_the_menu(folder: Path) -> None:
    path = disk(folder, pack(CLEAN), {"etc/hostname": "web01\n"})
    with machine(path, "bios") as guest:
        guest.console.expect("The copy has no boot menu")
        guest.console.send("\x1b")
        guest.console.expect(r"Press any key|Start the copy")
    assert parse(grubdisk.read_control(path, "dpsr/state")) == CLEAN


def test_the_firmwares_setup_is_one_key_away(folder: Path) -> None:
    with machine(disk(folder, pack(State("building"))), "uefi") as guest:
        guest.console.expect("Firmware setup")
        guest.console.send(DOWN)
        time.sleep(1)
        guest.console.send("\r")
        guest.console.expect("Boot Maintenance Manager")
