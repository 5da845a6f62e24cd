# SPDX-License-Identifier: GPL-3.0-or-later
"""Partitions the DPSR disk and makes the file systems of its own.

sfdisk writes the table, since it alone gives every partition its GUID and attributes in the same
write; libparted, which shares no code with it, then has to read the same.
"""

import gc
import json
import os
import time
from typing import Final

from builder.plan.table import Row, adopt, read_back, rows, same_layout, script
from core.claim import exclusively
from core.errors import CopyDiffers, WriteFailed
from core.machine.places import place_of
from core.model.copy import Identity, Plan
from core.run import need, run

__all__ = [
    "adopt", "make_fat", "make_file_systems", "need_partitioning", "partition", "same_layout",
]  # fmt: skip

_PROGRAMS: Final = ("sfdisk", "wipefs", "partx", "mkfs.fat", "mkfs.ext4", "mkswap")
_PATIENCE: Final = 20.0
"""Seconds until the kernel must show the new partitions."""


def need_partitioning() -> None:
    """Refuse now what would fail later. Raises ProgramMissing."""
    need(*_PROGRAMS)


def partition(plan: Plan) -> None:
    """Wipe the disk's old signatures and give it the table of `plan`, read back twice.

    The disk is open exclusively meanwhile. Raises DiskInUse, ProgramMissing (nothing was written),
    CommandFailed, CopyDiffers, WriteFailed.
    """
    need_partitioning()
    with exclusively(plan.disk) as descriptor:
        for part in (*(old.path for old in plan.before), plan.disk):
            if os.path.exists(part):
                run("wipefs", "--all", "--force", "--quiet", part)
        run("partx", "--delete", plan.disk, ok=(0, 1))  # 1: there was none
        run(
            "sfdisk", "--quiet", "--no-reread", "--no-tell-kernel",
            "--wipe", "always", "--wipe-partitions", "always", plan.disk,
            given=script(plan).encode(),
        )  # fmt: skip
        os.fsync(descriptor)
        run("partx", "--update", plan.disk)
        _check(plan)
    _wait_for(plan)


def make_file_systems(plan: Plan) -> None:
    """Make the control partition's FAT, the vault's ext4, and fresh swap. Raises CommandFailed.

    The slots of volumes are left as they are: their content is copied.
    """
    make_fat(plan.slot_path(plan.control.number), plan.control.identity)
    vault = plan.vault.identity
    run(
        # Few files, some large: one inode for 256 KiB. Nobody but root writes: nothing reserved.
        "mkfs.ext4", "-q", "-F", "-U", vault.uuid, "-L", vault.label, "-m", "0", "-i", "262144",
        plan.slot_path(plan.vault.number), timeout=600,
    )  # fmt: skip
    for slot in plan.slots:
        if slot.kind == "swap":
            new, path = slot.identity, plan.slot_path(slot.number)
            run("mkswap", "--uuid", new.uuid, "--label", new.label, path)


def make_fat(path: str, identity: Identity) -> None:
    """Make a FAT32 file system with that volume id and label. Raises CommandFailed."""
    volume_id = identity.uuid.replace("-", "")
    run("mkfs.fat", "-F", "32", "-i", volume_id, "-n", identity.label, path)


def _check(plan: Plan) -> None:
    wanted = rows(plan)
    guid, found = read_back(json.loads(run("sfdisk", "--json", plan.disk)), plan.sector)
    if found != wanted or guid != plan.disk_guid:
        raise CopyDiffers(f"The partition table of {plan.disk} does not read back as written.")
    if _as_parted_sees(plan.disk) != [
        (row.number, row.start, row.size, row.name) for row in wanted
    ]:
        raise CopyDiffers(f"libparted and sfdisk read the table of {plan.disk} differently.")


def _as_parted_sees(disk: str) -> list[tuple[int, int, int, str]]:
    import parted

    try:
        return _read_by_parted(disk)
    finally:
        # It would answer from memory the next time. Objects in cycles still point to what is freed
        # then, and would end the program with a crash when it exits.
        gc.collect()
        parted.freeAllDevices()


def _read_by_parted(disk: str) -> list[tuple[int, int, int, str]]:
    import _ped
    import parted

    try:
        device = parted.getDevice(disk)
        sector = device.sectorSize
        return [
            (part.number, part.geometry.start * sector, part.geometry.length * sector, part.name)
            for part in parted.newDisk(device).partitions
        ]
    except (_ped.IOException, _ped.DeviceException, _ped.DiskException) as reason:
        raise CopyDiffers(f"libparted cannot read the table of {disk}: {reason}.") from None


def _wait_for(plan: Plan) -> None:
    """Until the kernel shows every partition where it belongs, and its node is there."""
    deadline = time.monotonic() + _PATIENCE
    while missing := [row.name for row in rows(plan) if not _is_there(plan, row)]:
        if time.monotonic() > deadline:
            raise WriteFailed(
                f"{plan.disk} is partitioned, but the kernel does not show {', '.join(missing)}.",
                "Restart the machine, then run the same command again.",
            )
        time.sleep(0.05)


def _is_there(plan: Plan, row: Row) -> bool:
    path = plan.slot_path(row.number)
    return place_of(path) == (row.start, row.size) and os.path.exists(path)
