# SPDX-License-Identifier: GPL-3.0-or-later
"""How a disk can be detached follows from where it hangs, and from what hangs beside it."""

import os
from pathlib import Path

import pytest

from core.machine.attached import Attached, attached, way_of

PORT = "pci0000:00/0000:00:02.1/0000:03:00.0"


class Sys:
    """A sysfs made up of a few folders."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "class/block").mkdir(parents=True)

    def block(self, way: str, *, partition: bool = False) -> None:
        """A block device whose folder is `way`, below /sys/devices."""
        path = self.folder / "devices" / way
        path.mkdir(parents=True, exist_ok=True)
        if partition:
            (path / "partition").write_text("1\n")
        (self.folder / "class/block" / path.name).symlink_to(path)

    def link(self, way: str, to: str) -> None:
        path = self.folder / "devices" / way
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(self.folder / "devices" / to)

    def at(self, way: str) -> str:
        return str(self.folder / "devices" / way)


@pytest.fixture
def sys(tmp_path: Path) -> Sys:
    return Sys(Path(os.path.realpath(tmp_path)))


@pytest.mark.parametrize(
    ("above", "host", "bus"),
    [
        (f"{PORT}/virtio3", "host2", "scsi"),
        ("pci0000:00/0000:00:1f.2/ata3", "host2", "sata"),
        ("pci0000:00/0000:00:14.0/usb2/2-1/2-1:1.0", "host7", "usb"),
        ("platform/host-of-another-kind", "host7", "scsi"),
    ],
)
def test_a_scsi_disk_by_itself(sys: Sys, above: str, host: str, bus: str) -> None:
    """Others on its controller stay: one device is deleted, one place is scanned."""
    device = f"{above}/{host}/target{host[4:]}:0:1/{host[4:]}:0:1:12"
    sys.block(f"{device}/block/sdb")
    sys.block(f"{device}/block/sdb/sdb1", partition=True)
    sys.block(f"{above}/{host}/target{host[4:]}:0:2/{host[4:]}:0:2:0/block/sdc")
    found = attached("sdb", sys.folder)
    assert found.bus == bus
    way = way_of(found)
    assert (way.kind, way.take) == ("scsi", f"{sys.at(device)}/delete")
    assert (way.bring, way.say) == (f"/sys/class/scsi_host/{host}/scan", "0 1 12")
    assert way.pci == (above.split("/")[1] if "usb" in above or "ata" in above else way.pci)


def test_a_virtio_disk_with_its_pci_function(sys: Sys) -> None:
    sys.block(f"{PORT}/virtio3/block/vdb")
    sys.block(f"{PORT}/virtio3/block/vdb/vdb1", partition=True)
    sys.block("pci0000:00/0000:00:02.2/0000:04:00.0/virtio4/block/vdc")
    way = way_of(attached("vdb", sys.folder))
    assert (way.kind, way.take) == ("pci", f"{sys.at(PORT)}/remove")
    assert (way.bring, way.say) == ("/sys/class/pci_bus/0000:03/rescan", "1")
    assert way.pci == "0000:03:00.0"


def test_a_virtio_disk_without_pci_stays(sys: Sys) -> None:
    sys.block("platform/a003c00.virtio_mmio/virtio0/block/vda")
    assert way_of(attached("vda", sys.folder)).why == "its controller is no PCI device"


def test_an_nvme_disk_whose_controller_is_its_own(sys: Sys) -> None:
    sys.block(f"{PORT}/nvme/nvme1/nvme1n1")
    sys.block(f"{PORT}/nvme/nvme1/nvme1n1/nvme1n1p1", partition=True)
    way = way_of(attached("nvme1n1", sys.folder))
    assert (way.kind, way.take) == ("pci", f"{sys.at(PORT)}/remove")


def head(sys: Sys, *ports: str, namespaces: tuple[int, ...] = (1,)) -> None:
    """As Debian's kernel shows NVMe: a head in the subsystem, a hidden path below each port."""
    above = "virtual/nvme-subsystem/nvme-subsys1"
    for number in namespaces:
        sys.block(f"{above}/nvme1n{number}")
    for at, port in enumerate(ports):
        for number in namespaces:
            sys.block(f"{port}/nvme/nvme{at + 1}/nvme1c{at}n{number}")
        sys.link(f"{above}/nvme{at + 1}", f"{port}/nvme/nvme{at + 1}")


def test_an_nvme_disk_behind_the_head_of_a_multipath(sys: Sys) -> None:
    head(sys, PORT)
    found = attached("nvme1n1", sys.folder)
    assert found == Attached("nvme1n1", "nvme", "", sys.at(PORT), 1, ())
    assert way_of(found).kind == "pci"


def test_another_namespace_keeps_the_controller(sys: Sys) -> None:
    head(sys, PORT, namespaces=(1, 2))
    assert way_of(attached("nvme1n1", sys.folder)).why == "its controller has nvme1n2, too"


def test_another_namespace_without_multipath_does_so_too(sys: Sys) -> None:
    sys.block(f"{PORT}/nvme/nvme1/nvme1n1")
    sys.block(f"{PORT}/nvme/nvme1/nvme1n2")
    assert way_of(attached("nvme1n1", sys.folder)).kind == "none"


def test_a_second_path_keeps_it(sys: Sys) -> None:
    head(sys, PORT, "pci0000:00/0000:00:02.2/0000:04:00.0")
    assert way_of(attached("nvme1n1", sys.folder)).why == "it is reached by 2 controllers"


def test_nvme_over_a_network_stays(sys: Sys) -> None:
    head(sys, "virtual/nvme-fabrics/ctl")
    assert way_of(attached("nvme1n1", sys.folder)).why == "its controller is no PCI device"


def test_another_kind_of_disk_stays(sys: Sys) -> None:
    sys.block(f"{PORT}/mmc_host/mmc0/mmc0:0001/block/mmcblk0")
    way = way_of(attached("mmcblk0", sys.folder))
    assert (way.kind, way.why) == ("none", "a disk of its kind cannot be detached")
