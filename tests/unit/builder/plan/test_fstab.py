# SPDX-License-Identifier: GPL-3.0-or-later
"""fstab is read as mount(8) reads it."""

import pytest

from builder.plan.fstab import Entry, device_of, identity_from_spec, normal, parse_fstab
from core.model.machine import Holder
from tests.support.machines import GIB, blank, disk, machine, part, primary

TEXT = r"""
# /etc/fstab: static file system information.
UUID=0a3407de-014b-458b-b5c1-848e92a327a3 /               ext4    errors=remount-ro 0       1
UUID=1A2B-3C4D  /boot/efi/       vfat    umask=0077      0       1
/dev/disk/by-label/my\x20data /srv/my\040data ext4 noauto,x-systemd.automount
LABEL="spare" /spare ext4 defaults 0 2
UUID=f9fe0b69-a280-415d-a03a-a32752370dee none swap sw 0 0
/dev/sr0        /media/cdrom0   udf,iso9660 user,noauto     0       0
tmpfs /tmp tmpfs defaults 0 0
server:/export /net nfs defaults 0 0
/srv/image.img /mnt ext4 loop 0 0
/dev/sda9 /bound none bind 0 0
broken
"""


def test_only_local_file_systems_and_swap_are_left() -> None:
    assert [entry.mountpoint for entry in parse_fstab(TEXT)] == [
        "/", "/boot/efi", "/srv/my data", "/spare", "",
    ]  # fmt: skip


def test_an_entry_is_read_whole() -> None:
    assert parse_fstab(TEXT)[2] == Entry(
        r"/dev/disk/by-label/my\x20data", "/srv/my data", "ext4", ("noauto", "x-systemd.automount")
    )


@pytest.mark.parametrize("written", ["/boot", "/boot/", "//boot", "boot"])
def test_mount_points_are_brought_to_one_form(written: str) -> None:
    assert normal(written) == "/boot"
    assert normal("/") == "/"


def test_a_device_is_found_by_every_name() -> None:
    data = part(
        "/dev/sdc1", 1, 0, GIB, "ext4", label="my data", name="Data", partuuid="abcd-01",
        uuid="0a3407de-014b-458b-b5c1-848e92a327a3", links=("/dev/disk/by-id/ata-X-part1",),
    )  # fmt: skip
    lv = Holder("/dev/dm-0", (253, 0), "LVM volume", (), links=("/dev/mapper/vg-srv",), uuid="lv")
    system = machine(primary(), disk("/dev/sdc", GIB, data), holders=(lv,))
    for spec in (
        "UUID=0A3407DE-014B-458B-B5C1-848E92A327A3", "LABEL=my data", 'LABEL="my data"',
        "PARTUUID=ABCD-01", "PARTLABEL=Data", "/dev/sdc1", "/dev/disk/by-id/ata-X-part1",
        "/dev/disk/by-uuid/0a3407de-014b-458b-b5c1-848e92a327a3",
        r"/dev/disk/by-label/my\x20data", "/dev/disk/by-partuuid/abcd-01",
    ):  # fmt: skip
        assert device_of(system, spec) == "/dev/sdc1", spec
    assert device_of(system, "/dev/mapper/vg-srv") == device_of(system, "UUID=lv") == "/dev/dm-0"


def test_what_is_not_there_is_not_found() -> None:
    system = machine(primary(), blank())
    for spec in ("UUID=", "UUID=0", "LABEL=", "/dev/sdq", "nonsense"):
        assert device_of(system, spec) == "", spec


def test_an_absent_device_is_known_by_what_is_said_of_it() -> None:
    assert identity_from_spec("PARTLABEL=x").partlabel == "x"
    assert identity_from_spec("/dev/sdq1").paths == ("/dev/sdq1",)
    assert identity_from_spec("/dev/disk/by-uuid/x").paths == ("/dev/disk/by-uuid/x",)
