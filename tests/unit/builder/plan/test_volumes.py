# SPDX-License-Identifier: GPL-3.0-or-later
"""Which file systems are copied: what a person would expect without having read anything."""

from dataclasses import replace

import pytest

from builder.plan.fstab import parse_fstab
from builder.plan.volumes import Choice, choose
from builder.plan.wish import Wish
from core.errors import CannotCopyFileSystem, NoSuchVolume, PrimaryNotSupported
from core.model.machine import Holder, Machine, Swap
from tests.support.machines import GIB, MIB, blank, disk, fstab, machine, mount, part, primary

DATA = disk("/dev/sdc", 9 * GIB, part("/dev/sdc1", 1, MIB, 8 * GIB, "ext4"))


def plain() -> Machine:
    return machine(primary(), blank())


def with_data() -> Machine:
    """/data on another disk."""
    system = machine(primary(), blank(), DATA)
    return replace(system, mounts=(*system.mounts, mount(DATA.partitions[0], "/data")))


def chosen(system: Machine, *, text: str | None = None, **wish: tuple[str, ...]) -> Choice:
    told = fstab(system) if text is None else text
    return choose(system, system.disks[0], Wish(**wish), parse_fstab(told))  # type: ignore[arg-type]


def places(choice: Choice) -> list[str]:
    return [volume.mountpoint for volume in choice.volumes]


def test_everything_in_fstab_on_the_primary_is_copied_parents_first() -> None:
    choice = chosen(plain())
    assert places(choice) == ["/", "/boot/efi", "/home"]
    assert [(area.size, area.identity.paths) for area in choice.swaps] == [(GIB, ("/dev/sda4",))]
    assert choice.left_out == ()
    assert choice.warnings == ()


def test_a_volume_is_described_by_what_the_copier_needs() -> None:
    system = plain()
    root = chosen(system).volumes[0]
    part = system.disks[0].partitions[1]
    assert (root.source, root.disk, root.offset, root.size) == (
        "/dev/sda2", "/dev/sda", part.start, part.size,
    )  # fmt: skip
    assert (root.fstype, root.block, root.used) == ("ext4", 4096, part.size // 4)
    assert root.identity.uuid == part.uuid
    assert root.identity.paths == ("/dev/sda2", "/dev/disk/by-partuuid/root")


def test_another_disk_is_left_out_and_said() -> None:
    choice = chosen(with_data())
    assert "/data" not in places(choice)
    assert [known.paths for known in choice.left_out] == [("/dev/sdc1",)]
    assert len(choice.warnings) == 1
    assert "--volume /data" in choice.warnings[0]


def test_volume_adds_and_a_trailing_slash_does_no_harm() -> None:
    choice = chosen(with_data(), volumes=("/data/",))
    assert places(choice) == ["/", "/boot/efi", "/data", "/home"]
    assert choice.left_out == ()
    assert choice.warnings == ()


def test_exclude_removes_without_a_word() -> None:
    choice = chosen(plain(), exclude=("/home",))
    assert places(choice) == ["/", "/boot/efi"]
    assert [known.paths for known in choice.left_out] == [("/dev/sda3",)]
    assert choice.warnings == ()


def test_what_the_copy_starts_from_cannot_be_left_out() -> None:
    for place in ("/", "/boot/efi"):
        with pytest.raises(NoSuchVolume, match="would not start"):
            chosen(plain(), exclude=(place,))


def test_names_that_mean_nothing_are_refused() -> None:
    with pytest.raises(NoSuchVolume, match="/nowhere is not in the set"):
        chosen(plain(), exclude=("/nowhere",))
    with pytest.raises(NoSuchVolume, match="No local file system is mounted at /nowhere"):
        chosen(plain(), volumes=("/nowhere",))


def test_a_second_name_of_the_same_file_system_is_no_volume() -> None:
    system = plain()
    text = fstab(system)
    again = mount(system.disks[0].partitions[2], "/srv/home")
    system = replace(system, mounts=(*system.mounts, again))
    assert places(chosen(system, text=text)) == ["/", "/boot/efi", "/home"]
    with pytest.raises(NoSuchVolume, match="same file system as /home"):
        chosen(system, text=text, volumes=("/srv/home",))


def test_a_boot_file_system_elsewhere_is_needed_all_the_same() -> None:
    system = plain()
    system = replace(
        system,
        disks=(*system.disks, DATA),
        mounts=(*system.mounts, mount(DATA.partitions[0], "/var")),
    )
    assert places(chosen(system)) == ["/", "/boot/efi", "/home", "/var"]


def test_a_mounted_file_system_that_fstab_does_not_know_is_said() -> None:
    system = plain()
    text = "\n".join(line for line in fstab(system).splitlines() if "/home" not in line)
    choice = chosen(system, text=text)
    assert places(choice) == ["/", "/boot/efi"]
    assert choice.left_out == ()
    assert [said for said in choice.warnings if "--volume /home" in said]
    assert places(chosen(system, text=text, volumes=("/home",))) == ["/", "/boot/efi", "/home"]


def test_an_unmounted_boot_is_refused_and_other_unmounted_ones_are_said() -> None:
    system = plain()
    unmounted = part("/dev/sda5", 5, GIB, GIB, "ext4")
    sda = replace(system.disks[0], partitions=(*system.disks[0].partitions, unmounted))
    system = replace(system, disks=(sda, system.disks[1]))
    line = f"UUID={unmounted.uuid} {{}} ext4 noauto 0 0\n"
    with pytest.raises(PrimaryNotSupported, match="/boot is in /etc/fstab but not mounted"):
        chosen(system, text=fstab(system) + line.format("/boot"))
    choice = chosen(system, text=fstab(system) + line.format("/srv"))
    assert choice.warnings == ("/srv is not copied: it is not mounted.",)
    assert [known.uuid for known in choice.left_out] == [unmounted.uuid]


def test_an_entry_of_a_disk_that_is_gone_is_left_out_by_what_fstab_says() -> None:
    system = plain()
    text = fstab(system) + "LABEL=usb /mnt ext4 nofail 0 0\n/dev/sdz1 /x ext4 nofail 0 0\n"
    found = chosen(system, text=text).left_out
    assert [(known.label, known.paths) for known in found] == [("usb", ()), ("", ("/dev/sdz1",))]


def test_an_entry_that_names_a_volume_oddly_gives_it_another_name() -> None:
    system = plain()
    choice = chosen(system, text=fstab(system).replace("UUID=", "/dev/by-magic/", 1))
    assert choice.left_out == ()
    assert any(path.startswith("/dev/by-magic/") for path in choice.volumes[0].identity.paths)


def test_an_entry_that_names_another_device_than_is_mounted_is_said() -> None:
    system = plain()
    text = fstab(system).replace(f"UUID={system.disks[0].partitions[2].uuid}", "UUID=stale")
    choice = chosen(system, text=text)
    assert places(choice) == ["/", "/boot/efi", "/home"]
    assert [said for said in choice.warnings if "UUID=stale" in said]


def test_a_file_system_on_the_primary_that_cannot_be_copied_needs_consent() -> None:
    system = plain()
    xfs = part("/dev/sda5", 5, GIB, GIB, "xfs")
    sda = replace(system.disks[0], partitions=(*system.disks[0].partitions, xfs))
    system = replace(system, disks=(sda,), mounts=(*system.mounts, mount(xfs, "/srv")))
    with pytest.raises(CannotCopyFileSystem):
        chosen(system)
    assert "/srv" not in places(chosen(system, exclude=("/srv",)))


def test_lvm_beside_a_plain_root_needs_consent_too() -> None:
    system = plain()
    lv = Holder("/dev/dm-0", (253, 0), "LVM volume vg0-srv", ("/dev/sda4",), GIB, "ext4", "lv-uuid")
    system = replace(system, holders=(lv,), mounts=(*system.mounts, mount(lv, "/srv")), swaps=())
    with pytest.raises(PrimaryNotSupported, match="LVM volume vg0-srv") as caught:
        chosen(system)
    assert "--exclude /srv" in caught.value.hint
    assert "/srv" not in places(chosen(system, exclude=("/srv",)))


def test_swap_that_only_fstab_knows_gets_a_slot_too() -> None:
    system = plain()
    text = fstab(system)
    assert len(chosen(replace(system, swaps=()), text=text).swaps) == 1


def test_swap_on_another_disk_gets_no_slot_and_does_not_hang_the_copy() -> None:
    system = machine(
        primary(), blank(), disk("/dev/sdc", GIB, part("/dev/sdc1", 1, 0, GIB, "swap"))
    )
    other = system.disks[2].partitions[0]
    system = replace(system, swaps=(Swap("/dev/sdc1", "partition", GIB, other.uuid, ""),))
    choice = chosen(system)
    assert choice.swaps == ()
    assert [known.paths for known in choice.left_out] == [("/dev/sdc1",)]


def test_encrypted_swap_gets_no_open_slot() -> None:
    system = plain()
    crypt = Holder("/dev/dm-0", (253, 0), "encrypted device swap", ("/dev/sda4",), GIB)
    system = replace(system, holders=(crypt,), swaps=(Swap("/dev/dm-0", "partition", GIB, "", ""),))
    choice = chosen(system, text="")
    assert choice.swaps == ()
    assert "encrypted device swap" in choice.warnings[0]


def test_a_swap_file_belongs_to_the_volume_that_it_lies_in() -> None:
    system = plain()
    system = replace(
        system,
        swaps=(Swap("/home/swap", "file", GIB, "", ""), Swap("/swapfile", "file", MIB, "", "")),
    )
    found = [(swap.path, swap.volume, swap.size) for swap in chosen(system).swap_files]
    assert found == [("/home/swap", "/home", GIB), ("/swapfile", "/", MIB)]
    without = chosen(system, exclude=("/home",)).swap_files
    assert [swap.path for swap in without] == ["/swapfile"]
