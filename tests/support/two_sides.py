# SPDX-License-Identifier: GPL-3.0-or-later
"""Both disks of a machine as `dpsr switch` sees them, with a state block in a file."""

from pathlib import Path
from typing import Any, Final

from core.model.machine import Disk, Firmware, Partition
from core.model.state import State
from core.settings import BackupSet
from grub.order import LABEL, LOADER, Wish
from grub.state import pack, read_state
from grub.turn import Side
from recovery.sides import Sides
from tests.support.fake_efibootmgr import FakeFirmware

CONTROL: Final = "aaaaaaaa-0000-4000-8000-000000000001"
PRIMARY: Final = "bbbbbbbb-0000-4000-8000-000000000002"
OURS: Final = (LABEL, f"HD(2,GPT,{CONTROL},0x1000,0x1000)/File({LOADER})")
DEBIAN: Final = ("debian", f"HD(1,GPT,{PRIMARY},0x800,0x1000)/File(\\EFI\\debian\\shimx64.efi)")
SETUP: Final = ("UiApp", "FvFile(462caa21-7614-4503-836e-8ab6f4662331)")
PXE: Final = ("UEFI PXEv4", "PciRoot(0x0)/MAC(0011223344ff,1)/IPv4(0.0.0.0)")
SHELL: Final = ("Shell", "FvFile(7c04a583-9e3e-4f1c-ad65-e05268d0b4d1)")
WISH: Final = Wish(CONTROL, frozenset({PRIMARY}))
STATE: Final = State(
    "clean",
    gen=12,
    taken="2025-11-22T03:00:05+00:00",
    txid="0123456789abcdef0123456789abcdef",
    slot="6f2c2b1e-5f0c-4f6a-9c1e-0d5b7a3e9f10",
    extra=(("rescue", "0123456789abcdef"),),
)
SET: Final = BackupSet(
    "system", "S1", "", "g", "model", 1, 0, CONTROL, "D0D0-1234", "v"
)  # fmt: skip


def firmware(*entries: tuple[str, str], **how: Any) -> FakeFirmware:
    """A firmware with these entries, in this order; the first started the system."""
    numbers = list(range(len(entries)))
    given: dict[str, Any] = {"current": 0, "control": CONTROL, **how}
    return FakeFirmware(dict(enumerate(entries)), numbers, **given)


def sides(
    folder: Path, here: Side = "primary", by: Firmware = "uefi", state: State = STATE
) -> Sides:
    """Sides whose DPSR disk is a file in `folder` that holds nothing but a state block."""
    disk = folder / "disk"
    if not disk.exists():
        disk.write_bytes(pack(state))
    control = Partition(2, f"{disk}2", (8, 2), 0, 0, "", "dpsr-control", CONTROL, "vfat", "", "")
    found = Disk(
        str(disk), (8, 0), "S1", "", "model", 4096, 512, "scsi", "", False, False, "gpt", "g", (),
        (control,),
    )  # fmt: skip
    now = read_state(str(disk), 0)
    return Sides("system", here, by, found, control, 0, now, WISH, (SET,))
