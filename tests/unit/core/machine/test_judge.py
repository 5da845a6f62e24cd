# SPDX-License-Identifier: GPL-3.0-or-later
"""What real machines say of their disks becomes the right values.

tests/data/devices has what `gather` and `with_properties` returned in guests: Debian 13 by UEFI
with blank SCSI, virtio and NVMe disks beside the primary; Debian 12 by BIOS with a dm device on the
NVMe disk, and a virtio disk that a rule of udev's hides.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from core.machine.devices import Device
from core.machine.judge import bus_of, disks_from, holders_from, serials_of, wwn_of
from core.machine.roles import Role, role_of
from core.machine.udev import parse_blkid
from core.model.machine import Disk, Holder
from tests.support.machines import GIB, MIB, blank, disk, machine, mount, part, primary

DATA = Path(__file__).parents[3] / "data"


def captured(name: str) -> tuple[Device, ...]:
    return tuple(
        Device(
            **{
                **entry,
                "dev": tuple(entry["dev"]),
                "links": tuple(entry["links"]),
                "slaves": tuple(entry["slaves"]),
                "drivers": tuple(tuple(driver) for driver in entry["drivers"]),
            }
        )
        for entry in json.loads((DATA / "devices" / name).read_text())
    )


def disks_of(name: str) -> dict[str, Disk]:
    return {found.serial: found for found in disks_from(captured(name))}


def test_disks_on_every_bus_are_seen() -> None:
    found = disks_of("debian13-uefi.json")
    assert {serial: (d.path, d.bus, d.driver) for serial, d in found.items()} == {
        "NVME4": ("/dev/nvme0n1", "nvme", "nvme"),
        "SCSI-2 X": ("/dev/sda", "scsi", "virtio_scsi"),
        "PRIMARY1": ("/dev/vda", "virtio", "virtio_blk"),
        "VIRT3": ("/dev/vdb", "virtio", "virtio_blk"),
    }
    assert found["SCSI-2 X"].model == "QEMU HARDDISK"
    assert found["SCSI-2 X"].serials == ("SCSI-2_X", "0QEMU_QEMU_HARDDISK_SCSI-2_X")
    assert found["NVME4"].wwn.startswith("nvme.1b36-4e564d4534-")
    assert all(d.sector == 512 and not d.read_only for d in found.values())
    assert all("/by-id/" in link or "/by-path/" in link for d in found.values() for link in d.links)


def test_only_modules_that_can_be_missing_from_an_initrd_are_named() -> None:
    found = disks_of("debian13-uefi.json")
    assert found["SCSI-2 X"].drivers == ("sd_mod", "virtio_scsi")
    assert found["NVME4"].drivers == ()  # built into Debian 13's cloud kernel


def test_partitions_of_a_gpt_have_all_that_identifies_them() -> None:
    system = disks_of("debian13-uefi.json")["PRIMARY1"]
    assert (system.table, system.guid) == ("gpt", "ed5d0dab-6da9-f043-e149-d7bd2dcb79b4")
    esp, root, swap = system.partitions
    assert (esp.fstype, esp.uuid) == ("vfat", "B9A0-2928")
    assert (root.number, root.path, root.start, root.size) == (
        2, "/dev/vda2", 135266304, 2950692864,
    )  # fmt: skip
    assert root.kind == "0fc63daf-8483-4772-8e79-3d69d8477de4"
    assert f"/dev/disk/by-uuid/{root.uuid}" in root.links
    assert swap.fstype == "swap"


def test_partitions_of_an_mbr_have_types_and_escaped_labels() -> None:
    found = disks_of("debian12-bios.json")["SCSI-2 X"]
    assert (found.table, found.guid) == ("dos", "3a69e319")
    data, swap = found.partitions
    assert (data.kind, swap.kind) == ("0x83", "0x82")
    assert (data.partuuid, data.label) == ("3a69e319-01", "my data")
    assert r"/dev/disk/by-label/my\x20data" in data.links


def test_a_disk_that_udev_ignores_is_known_all_the_same() -> None:
    found = disks_of("debian12-bios.json")["VIRT3"]
    assert found.ignored
    assert found.links == ()
    assert (found.table, found.guid) == ("gpt", "aa6d16fd-8cf0-e648-89e9-f8374493efb5")
    control = found.partitions[0]
    assert (control.name, control.label, control.fstype) == ("dpsr-control", "hid den", "ext4")
    assert control.partuuid
    assert control.uuid
    assert not disks_of("debian12-bios.json")["NVME4"].ignored


def test_a_mapped_device_is_a_holder_and_no_disk() -> None:
    (found,) = holders_from(captured("debian12-bios.json"))
    assert (found.path, found.kind) == ("/dev/dm-0", "device mapper vg-srv")
    assert found.on == ("/dev/nvme0n1p1",)
    assert (found.size, found.fstype) == (GIB, "ext4")
    assert "/dev/mapper/vg-srv" in found.links
    assert all(d.path != "/dev/dm-0" for d in disks_from(captured("debian12-bios.json")))


def device(name: str, folder: str = "", **more: Any) -> Device:
    """A device as sysfs would show it, with hardware behind it unless it has `slaves`."""
    number = sum(map(ord, name))
    made: dict[str, Any] = {
        "name": name, "node": f"/dev/{name}", "dev": (8, number), "folder": folder, "parent": "",
        "said": {}, "attributes": {"size": "2048"},
        "drivers": () if more.get("slaves") or more.get("parent") else (("pci", "ahci", True),),
    }  # fmt: skip
    return Device(**(made | more))


def test_layers_are_followed_all_the_way_down() -> None:
    devices = (
        device("sda"),
        device("sda1", parent="sda"),
        device("sdb"),
        device("sdb1", parent="sdb"),
        device("md0", slaves=("sda1", "sdb1")),
        device("md0p1", parent="md0"),
        device("dm-0", slaves=("md0p1",), attributes={"dm/name": "c", "dm/uuid": "CRYPT-LUKS2-x"}),
        device("dm-1", slaves=("dm-0",), attributes={"dm/name": "vg-srv", "dm/uuid": "LVM-xyz"}),
    )
    found = {holder.path: (holder.kind, holder.on) for holder in holders_from(devices)}
    both = ("/dev/sda1", "/dev/sdb1")
    assert found == {
        "/dev/md0": ("md array md0", both),
        "/dev/md0p1": ("md array md0p1", both),
        "/dev/dm-0": ("encrypted device c", both),
        "/dev/dm-1": ("LVM volume vg-srv", both),
    }
    assert [d.path for d in disks_from(devices)] == ["/dev/sda", "/dev/sdb"]


def test_a_multipath_device_names_its_paths() -> None:
    mapped = {"dm/name": "mpatha", "dm/uuid": "mpath-3600"}
    (found,) = holders_from(
        (device("sda"), device("sdb"), device("dm-0", slaves=("sda", "sdb"), attributes=mapped))
    )
    assert (found.kind, found.on) == ("multipath device mpatha", ("/dev/sda", "/dev/sdb"))


@pytest.mark.parametrize("name", ["mmcblk0boot0", "mmcblk0boot1", "mmcblk0rpmb"])
def test_boot_areas_and_empty_readers_are_no_disks(name: str) -> None:
    assert disks_from([device(name)]) == ()
    assert disks_from([device("sdc", attributes={"size": "0"})]) == ()
    assert disks_from([device("zd0", drivers=())]) == ()


@pytest.mark.parametrize(
    ("name", "folder", "bus"),
    [
        ("nvme0n1", "/sys/devices/pci0000:00/0000:00:06.0/nvme/nvme0/nvme0n1", "nvme"),
        ("nvme0n1", "/sys/devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1", "nvme"),
        ("sda", "/sys/devices/pci0000:00/0000:00:1f.2/ata1/host0/0:0:0:0/block/sda", "sata"),
        ("sda", "/sys/devices/pci0000:00/0000:00:14.0/usb2/2-1/2-1:1.0/host6/x/block/sda", "usb"),
        ("sda", "/sys/devices/pci0000:00/0000:00:05.0/virtio3/host6/x/block/sda", "scsi"),
        ("vda", "/sys/devices/pci0000:00/0000:00:04.0/virtio2/block/vda", "virtio"),
        ("mmcblk0", "/sys/devices/platform/soc/mmc_host/mmc0/mmc0:0001/block/mmcblk0", "other"),
    ],
)  # fmt: skip
def test_the_bus_is_read_from_the_way_to_the_disk(name: str, folder: str, bus: str) -> None:
    assert bus_of(name, folder) == bus


@pytest.mark.parametrize(
    ("said", "attributes", "wwn"),
    [
        ({}, {"device/wwid": "naa.5002538E40A1B2C3"}, "0x5002538e40a1b2c3"),
        ({}, {"wwid": "eui.0025385b71b0c1d2"}, "eui.0025385b71b0c1d2"),
        ({"ID_WWN": "0x5000c500a1b2c3d4"}, {"device/wwid": "t10.ATA     X"}, "0x5000c500a1b2c3d4"),
        (
            {"ID_WWN": "0x6001405", "ID_WWN_WITH_EXTENSION": "0x6001405aa"},
            {},
            "0x6001405aa",
        ),
        ({}, {"device/wwid": "t10.ATA     X"}, ""),
        ({}, {}, ""),
    ],
)
def test_a_wwn_is_written_as_udev_does(
    said: Mapping[str, str], attributes: Mapping[str, str], wwn: str
) -> None:
    assert wwn_of(said, attributes) == wwn


def test_the_serial_on_the_label_comes_first() -> None:
    scsi = device(
        "sda",
        said={"ID_SERIAL": "35000c5", "ID_SERIAL_SHORT": "5000c5", "ID_SCSI_SERIAL": "Z1X2"},
        attributes={"size": "2048", "device/vpd_pg80": "Z1X2"},
    )
    assert serials_of(scsi) == ("Z1X2", "5000c5", "35000c5")
    usb = device(
        "sdb", attributes={"size": "2048", "device/vpd_pg80": "000000"}, usb_serial="AA0123",
        said={"ID_SERIAL_SHORT": "AA0123"},
    )  # fmt: skip
    assert serials_of(usb) == ("AA0123",)
    assert disks_from([device("sdc")])[0].serial == ""


def test_blkid_speaks_udevs_words() -> None:
    found = parse_blkid((DATA / "blkid/export.txt").read_text())
    assert found["/dev/loop0"] == {
        "ID_PART_TABLE_TYPE": "gpt", "ID_PART_TABLE_UUID": "dcbed407-e3e6-4605-b99e-8306dda748a6",
    }  # fmt: skip
    assert found["/dev/loop0p6"]["ID_FS_LABEL"] == "my label"
    assert found["/dev/loop0p6"]["ID_PART_ENTRY_NAME"] == "dpsr-vault"
    assert found["/dev/loop0p2"]["ID_FS_UUID"] == "C4BB-86C3"
    assert parse_blkid("") == {}


# Roles


def test_each_disk_has_its_role() -> None:
    data = disk("/dev/sdc", 9 * GIB, part("/dev/sdc1", 1, MIB, GIB, "ext4"))
    ours = disk("/dev/sdd", 40 * GIB, part("/dev/sdd1", 1, MIB, GIB, "vfat", name="dpsr-control"))
    idle = disk("/dev/sde", 9 * GIB, part("/dev/sde1", 1, MIB, GIB, "ext4"))
    lv = Holder("/dev/dm-0", (253, 0), "LVM volume vg-srv", ("/dev/sdf",))
    below = blank("/dev/sdf")
    system = machine(primary(), blank(), data, ours, idle, below, holders=(lv,))
    mounts = (*system.mounts, mount(data.partitions[0], "/data"))
    system = machine(*system.disks, mounts=mounts, holders=(lv,))
    roles = {d.path: role_of(system, d, {ours.guid}) for d in system.disks}
    assert roles == {
        "/dev/sda": Role("primary", ""),
        "/dev/sdb": Role("free", "empty"),
        "/dev/sdc": Role("in use", "mounted at /data"),
        "/dev/sdd": Role("dpsr", ""),
        "/dev/sde": Role("free", "has data on it"),
        "/dev/sdf": Role("in use", "LVM volume vg-srv"),
    }
    assert role_of(system, ours, set()).detail == "not in this system's configuration"


def test_the_disk_that_the_system_runs_from_may_be_the_copy() -> None:
    slots = (
        part("/dev/sda2", 2, MIB, GIB, "vfat", name="dpsr-control"),
        part("/dev/sda3", 3, GIB, GIB, "ext4", name="dpsr-slot-root"),
    )
    copy = disk("/dev/sda", 9 * GIB, *slots)
    system = machine(copy, mounts=(mount(slots[1], "/"),))
    assert role_of(system, copy, set()) == Role("dpsr", "this system runs from it")
