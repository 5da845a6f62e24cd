# SPDX-License-Identifier: GPL-3.0-or-later
"""What status says of a system that the DPSR disk does not fit any more."""

import struct
from dataclasses import replace
from pathlib import Path

import pytest

from builder import shape_now as room
from builder.shape_now import shape_now
from core.settings import BackupSet, VolumeSettings
from tests.support.machines import GIB, MIB, blank, fstab, machine, mount, part, primary

PLACES = ("/", "/boot/efi", "/home")
KNOWN = BackupSet(
    "system", "SER-sdb", "", "guid", "m", 1, 0, "c", "d", "v",
    tuple(VolumeSettings(place, "ext4", "u", "s", 3 + at, "v", "g")
          for at, place in enumerate(PLACES)),
)  # fmt: skip


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "fstab"
    path.write_text(fstab(machine(primary(), blank())))
    monkeypatch.setattr(room, "_FSTAB", path)
    return path


def superblock(path: Path, blocks: int, *, bits64: bool = True) -> str:
    """An ext4 superblock that says how many blocks of 4 KiB there are."""
    data = bytearray(2048)
    struct.pack_into("<I", data, 1024 + 4, blocks & 0xFFFFFFFF)
    struct.pack_into("<I", data, 1024 + 0x150, blocks >> 32)
    struct.pack_into("<I", data, 1024 + 0x18, 2)
    struct.pack_into("<I", data, 1024 + 0x60, 0x80 if bits64 else 0)
    data[1024 + 0x38 : 1024 + 0x3A] = b"\x53\xef"
    path.write_bytes(data)
    return str(path)


@pytest.mark.usefixtures("table")
def test_a_system_that_fits_needs_no_word() -> None:
    assert shape_now(machine(primary(), blank()), KNOWN, blank()) == ()


def test_a_new_one_and_one_that_went_away(table: Path) -> None:
    system = machine(primary(), blank())
    new = part("/dev/sda5", 5, 19 * GIB, 64 * MIB, "ext4")
    first = system.disks[0]
    system = replace(
        system,
        disks=(replace(first, partitions=(*first.partitions, new)), blank()),
        mounts=(*(m for m in system.mounts if m.mountpoint != "/home"), mount(new, "/srv")),
    )
    table.write_text(fstab(system))
    said = " ".join(shape_now(system, KNOWN, None))
    assert "/srv is new" in said
    assert "/home went away" in said


@pytest.mark.usefixtures("table")
@pytest.mark.parametrize(("blocks", "said"), [(1 << 18, ""), ((1 << 18) + 1, "/ has grown")])
def test_one_that_outgrew_its_slot(tmp_path: Path, blocks: int, said: str) -> None:
    system = machine(primary(), blank())
    root = superblock(tmp_path / "root", blocks)
    mounts = tuple(replace(m, source=root) if m.mountpoint == "/" else m for m in system.mounts)
    first = system.disks[0]
    renamed = tuple(replace(p, path=root) if p.path == "/dev/sda2" else p for p in first.partitions)
    system = replace(system, mounts=mounts, disks=(replace(first, partitions=renamed), blank()))
    slot = part("/dev/sdb3", 3, MIB, GIB, name="dpsr-slot-root")
    told = shape_now(system, KNOWN, replace(blank(), partitions=(slot,)))
    assert " ".join(told).startswith(said)
    assert bool(told) == bool(said)
