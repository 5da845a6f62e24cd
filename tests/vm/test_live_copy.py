# SPDX-License-Identifier: GPL-3.0-or-later
"""The live copy of a running Debian's root, on every kind of disk, beside a volume on dm.

Both are written to all the while; what they are in the freeze is kept by dd in the guest, and
compared from outside by the oracle.
"""

import base64
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from images import sample
from images.guest import Guest
from images.recipe import PRIMARY_SERIAL, Recipe
from images.vm import DiskSpec
from tests.support import block, disk_image, load
from tests.support.block import MIB
from tests.support.push import push_rooms

pytestmark = pytest.mark.full

HOME = "/run/live"
STOP = "/run/load.stop"
DATA = 300 * MIB

MACHINES = {
    "13-virtio": Recipe(),
    "13-scsi": Recipe(bus="scsi"),
    "13-nvme": Recipe(bus="nvme"),
    "12-virtio-bios": Recipe(release=12, firmware="bios"),
    "12-nvme": Recipe(release=12, bus="nvme"),
}


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("machine", "slow"),
    [
        ("13-virtio", False),
        pytest.param("13-virtio", True, marks=pytest.mark.full),
        *(
            pytest.param(name, False, marks=pytest.mark.full)
            for name in MACHINES
            if name != "13-virtio"
        ),
    ],
)
def test_root_and_a_volume_on_dm(folder: Path, machine: str, slow: bool) -> None:
    recipe = MACHINES[machine]
    disks = {
        name: block.image(folder / name.lower(), size)
        for name, size in {
            "DATA": DATA, "KEPTROOT": recipe.size, "SLOTROOT": recipe.size,
            "KEPTDATA": DATA, "SLOTDATA": DATA,
        }.items()
    }  # fmt: skip
    plug = [
        DiskSpec(path, "scsi", name, overlay=False, format="raw") for name, path in disks.items()
    ]
    with sample.booted(sample.build(recipe, print), plug, print) as guest:
        nodes = {name: guest.wait_disk(name) for name in disks}
        said, loaded = copy_in(guest, nodes, slow=slow)
        figures = {name: value for name, value in said.items() if name != "identity"}
        sys.stderr.write(f"{machine}, slow: {slow}: {figures}, the load: {loaded}\n")
    assert said["passes"] >= 1
    assert said["peak_kib"] < 200 * 1024
    assert said["request_based"] == [True, False]
    copies = []
    for name in ("ROOT", "DATA"):
        kept, slot = disks[f"KEPT{name}"], disks[f"SLOT{name}"]
        identity = [
            (at, base64.b64decode(data))
            for at, data in said["identity"][Path(nodes[f"SLOT{name}"]).name]
        ]
        count, wrong = block.differing(kept, slot)
        assert count > 100
        spared = [(at, at + len(data)) for at, data in identity]
        assert [at for at in wrong if not any(s <= at < e for s, e in spared)] == []
        with slot.open("r+b") as stream:
            for at, data in identity:
                stream.seek(at)
                assert stream.read(len(data)) == bytes(len(data))
                stream.seek(at)
                stream.write(data)
        assert disk_image.e2fsck(slot, block.whole(slot)) == ""
        copies.append(slot)
    if os.geteuid() == 0:
        with (
            block.loop(copies[0]) as root,
            block.mounted(root, folder / "root.mnt") as first,
            block.loop(copies[1]) as other,
            block.mounted(other, folder / "data.mnt") as second,
        ):
            assert load.check([first / "var/load", second / "load"])["volumes"] == 2


def copy_in(
    guest: Guest, nodes: dict[str, str], *, slow: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Put both volumes under load, copy them; return what copy and load say of themselves."""
    push_rooms(guest)
    support = Path(block.__file__).parent
    for name in ("load.py", "disturb.py", "live_in_guest.py"):
        guest.put(f"{HOME}-{name}", (support / name).read_bytes())
    primary = guest.wait_disk(PRIMARY_SERIAL)
    if slow:  # writes land long after they were issued
        drive = next(d.name for d in guest._drives.values() if d.spec.serial == PRIMARY_SERIAL)
        # all, read, written: bytes, then requests, a second
        device = f"/machine/peripheral/{drive}/virtio-backend"
        said = guest.monitor.human(f"block_set_io_throttle {device} 0 0 {8 * MIB} 0 0 150")
        assert said.strip() == ""
    guest.sh(
        f"echo 0 {DATA // 512} linear {nodes['DATA']} 0 | dmsetup create data\n"
        "mkfs.ext4 -q /dev/mapper/data; mkdir -p /mnt/data; mount /dev/mapper/data /mnt/data"
    )
    writer = guest.start("python3", f"{HOME}-load.py", "run", "/var/load", "/mnt/data/load")
    for number, where in enumerate(("/var/busy", "/mnt/data/busy")):
        guest.start("python3", f"{HOME}-disturb.py", where, str(number), "0.02")
    try:
        guest.run(
            "env", "PYTHONPATH=/usr/lib/dpsr", "python3", f"{HOME}-live_in_guest.py",
            f"{HOME}.json", f"/:{primary}:{nodes['KEPTROOT']}:{nodes['SLOTROOT']}",
            f"/mnt/data:/dev/mapper/data:{nodes['KEPTDATA']}:{nodes['SLOTDATA']}",
            timeout=3000,
        )  # fmt: skip
    finally:
        guest.put(STOP, "")
    loaded = json.loads(writer.wait(120).out)
    return json.loads(guest.get(f"{HOME}.json")), loaded
