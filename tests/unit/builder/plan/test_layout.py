# SPDX-License-Identifier: GPL-3.0-or-later
"""The layout holds whatever the sizes: aligned, apart, inside the disk, with room for the vault."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.plan.identity import Fresh, identities
from builder.plan.layout import fit, make_plan, slot_names
from builder.plan.table import rows
from builder.plan.volumes import Choice, SwapArea
from builder.plan.wish import Wish
from core.errors import CannotCopyFileSystem, DiskIsPrimary, DiskTooSmall, NoRoomForVault
from core.model.copy import Identity, Plan, Volume
from core.model.machine import Disk, Machine
from tests.support.machines import GIB, MIB, blank, disk, fstab, machine, mount, part, primary

NOBODY = Identity("", "", "", "")


def known(seed: int = 1) -> Fresh:
    return Fresh(Random(seed).randbytes)


def plan_for(target: Disk, system: Machine | None = None, wish: Wish | None = None) -> Plan:
    system = system or machine(primary(), target)
    return make_plan(system, target, wish or Wish(), fstab(system), known())


def volume(size: int, used: int = 0, mountpoint: str = "/", fstype: str = "ext4") -> Volume:
    return Volume(mountpoint, "/dev/x", (8, 1), "/dev/sda", 0, size, fstype, used, 4096, (), NOBODY)


def test_the_whole_plan() -> None:
    target = blank(size=40 * GIB)
    plan = plan_for(target)
    names = [(row.number, row.name, row.size) for row in rows(plan)]
    home = 20 * GIB - 2 * MIB - 512 * MIB - 9 * GIB
    assert names[:-1] == [
        (1, "dpsr-bios", MIB),
        (2, "dpsr-control", 512 * MIB),
        (3, "dpsr-slot-root", 8 * GIB),
        (4, "dpsr-slot-efi", 512 * MIB),
        (5, "dpsr-slot-home", home),
        (6, "dpsr-slot-swap", GIB),
    ]
    assert names[-1][:2] == (7, "dpsr-vault")
    assert plan.vault.start + plan.vault.size == 40 * GIB - MIB
    assert (plan.primary, plan.disk, plan.serial) == ("/dev/sda", "/dev/sdb", "SER-sdb")
    assert (plan.hostname, plan.firmware, plan.sector) == ("server", "uefi", 512)
    assert plan.boot_slot.name == "root"
    assert plan.warnings == ()


def test_slots_stand_for_volumes_and_swap() -> None:
    plan = plan_for(blank())
    assert [(pair.mountpoint, pair.fstype) for pair in plan.pairs] == [
        ("/", "ext4"), ("/boot/efi", "vfat"), ("/home", "ext4"), ("", "swap"),
    ]  # fmt: skip
    for pair in plan.pairs:
        assert pair.old.uuid
        assert pair.new.uuid
        assert pair.old.uuid != pair.new.uuid
    assert plan.swaps[0].new == plan.slots[-1].identity


def test_drivers_of_both_disks_are_wanted() -> None:
    target = blank(driver="nvme", drivers=("nvme",))
    plan = plan_for(target)
    assert plan.driver == "nvme"
    assert plan.drivers == ("nvme", "sd_mod", "virtio_scsi")


def test_a_refused_disk_makes_no_plan() -> None:
    system = machine(primary(), blank())
    with pytest.raises(DiskIsPrimary):
        make_plan(system, system.disks[0], Wish(), fstab(system), known())


SIZES = st.integers(min_value=MIB, max_value=64 * GIB).map(lambda size: size // 512 * 512)


@given(
    st.lists(SIZES, min_size=1, max_size=6),
    st.lists(SIZES, max_size=2),
    st.integers(min_value=GIB, max_value=512 * GIB),
    st.sampled_from([512, 4096]),
)
def test_any_layout_that_is_not_refused_holds(
    sizes: list[int], swaps: list[int], size: int, sector: int
) -> None:
    parts = [
        part(f"/dev/sda{number}", number, 0, length, "ext4")
        for number, length in enumerate(sizes, 1)
    ]
    parts += [
        part(f"/dev/sda{number}", number, 0, length, "swap")
        for number, length in enumerate(swaps, len(parts) + 1)
    ]
    first = disk("/dev/sda", 600 * GIB, *parts)
    mounts = tuple(
        mount(each, "/" if number == 0 else f"/v{number}")
        for number, each in enumerate(parts[: len(sizes)])
    )
    target = blank(size=size, sector=sector)
    system = machine(first, target, mounts=mounts)
    text = fstab(system) + "".join(
        f"UUID={each.uuid} none swap sw 0 0\n" for each in parts[len(sizes) :]
    )
    try:
        plan = make_plan(system, target, Wish(), text, known())
    except (DiskTooSmall, NoRoomForVault) as refused:
        assert "MiB" in str(refused)  # noqa: PT017 - how it ends depends on the sizes drawn
        return
    table = rows(plan)
    assert [row.number for row in table] == list(range(1, len(table) + 1))
    assert table[0].start == MIB
    for row, after in pairwise(table):
        assert row.start + row.size <= after.start
    for row in table:
        assert row.start % MIB == 0
        assert row.size % sector == 0
    assert table[-1].start + table[-1].size <= size - 16384 - sector
    used = sum(length // 4 for length in sizes)
    assert plan.vault.size >= max(256 * MIB, used // 50)
    assert plan.control.size >= 264 * MIB
    for wanted, slot in zip(sizes, plan.slots, strict=False):
        assert wanted <= slot.size < wanted + sector


def gives(size: int, swap: int, root: int = 4 * GIB) -> tuple[int, tuple[int, ...]]:
    found = fit(blank(size=size), (volume(root),), (SwapArea(swap, NOBODY),))
    return found.control // MIB, tuple(length // MIB for length in found.swaps)


def test_swap_gives_way_first_then_control_then_swap_goes() -> None:
    # 2 MiB before the control partition, 256 for the vault, one for the backup of the GPT
    bare = 4 * GIB + 3 * MIB + 256 * MIB
    assert gives(bare + 1536 * MIB, GIB) == (512, (1024,))
    assert gives(bare + 1535 * MIB, GIB) == (512, (1023,))
    assert gives(bare + 576 * MIB, GIB) == (512, (64,))
    assert gives(bare + 575 * MIB, GIB) == (511, (64,))
    assert gives(bare + 328 * MIB, GIB) == (264, (64,))
    assert gives(bare + 327 * MIB, GIB) == (327, ())
    assert gives(bare + 264 * MIB, GIB) == (264, ())
    with pytest.raises(NoRoomForVault, match="1 MiB are missing"):
        gives(bare + 263 * MIB, GIB)


def test_swap_that_is_small_already_does_not_grow() -> None:
    assert gives(4 * GIB + 3 * MIB + 256 * MIB + 512 * MIB + 32 * MIB, 32 * MIB) == (512, (32,))


def test_the_larger_swap_gives_first() -> None:
    target = blank(size=4 * GIB + (3 + 256 + 512 + 600) * MIB)
    areas = (SwapArea(200 * MIB, NOBODY), SwapArea(800 * MIB, NOBODY))
    assert fit(target, (volume(4 * GIB),), areas).swaps == (200 * MIB, 400 * MIB)


def test_dropped_swap_is_said_and_does_not_hang_the_copy() -> None:
    system = machine(primary(4 * GIB + 8 * GIB), blank())
    total = sum(part.size for part in system.disks[0].partitions[:3])
    target = blank(size=total + (3 + 256 + 300) * MIB)
    plan = plan_for(target, machine(system.disks[0], target))
    assert plan.swaps == ()
    assert [known.paths for known in plan.left_out] == [("/dev/sda4",)]
    assert "no room for swap" in plan.warnings[0]


def test_the_vault_grows_with_what_is_used() -> None:
    target = blank(size=1200 * GIB)
    small = (volume(1000 * GIB, used=500 * GIB),)
    fit(target, small, ())
    with pytest.raises(NoRoomForVault):
        fit(replace(target, size=1009 * GIB), small, ())


@pytest.mark.parametrize(
    ("extra", "advice"),
    [
        ((volume(GIB, mountpoint="/a"), volume(9 * GIB, mountpoint="/b")), "--exclude /b"),
        (
            (volume(2 * GIB, mountpoint="/a"), volume(2 * GIB, mountpoint="/b")),
            "/a (2.0 GiB) and /b",
        ),
        ((), "Use a larger disk"),
        ((volume(9 * GIB, mountpoint="/var"),), "Use a larger disk"),
    ],
)
def test_a_disk_that_is_too_small_says_by_how_much_and_what_could_go(
    extra: tuple[Volume, ...], advice: str
) -> None:
    volumes = (volume(10 * GIB), *extra)
    total = sum(each.size for each in volumes)
    with pytest.raises(DiskTooSmall, match=r"too small by \d+ MiB") as caught:
        fit(blank(size=total - 3 * GIB), volumes, ())
    assert advice in caught.value.hint
    missing = int(str(caught.value).split(" by ")[1].split()[0])
    fit(blank(size=total - 3 * GIB + missing * MIB), volumes, ())
    with pytest.raises(NoRoomForVault):
        fit(blank(size=total - 3 * GIB + (missing - 1) * MIB), volumes, ())


def test_small_blocks_do_not_fit_large_sectors() -> None:
    target = blank(sector=4096)
    system = machine(primary(), target)
    root, *others = system.mounts
    small = replace(system, mounts=(replace(root, block=1024), *others))
    with pytest.raises(CannotCopyFileSystem, match="blocks of 1024 bytes"):
        plan_for(target, small)
    # FAT is made anew with the sectors of its disk.
    fat = replace(system, mounts=(root, replace(others[0], block=512), *others[1:]))
    assert plan_for(target, fat).sector == 4096


@pytest.mark.parametrize(
    ("mountpoint", "name"),
    [
        ("/", "root"),
        ("/boot", "boot"),
        ("/boot/efi", "efi"),
        ("/efi", "efi"),
        ("/srv/My Data", "srv-my-data"),
        ("/ä/ö", "volume"),
        ("/" + "x" * 40, "x" * 26),
    ],
)
def test_slots_are_called_after_their_mount_points(mountpoint: str, name: str) -> None:
    assert slot_names(Choice((volume(GIB, mountpoint=mountpoint),), (), (), (), ())) == [name]


def test_slot_names_never_meet() -> None:
    long = "/" + "x" * 40
    places = ("/swap", "/srv/a", "/srv-a", "/srv_a", long, long + "y")
    choice = Choice(
        tuple(volume(GIB, mountpoint=place) for place in places),
        (SwapArea(GIB, NOBODY), SwapArea(GIB, NOBODY)), (), (), (),
    )  # fmt: skip
    names = slot_names(choice)
    assert names == [
        "swap", "srv-a", "srv-a2", "srv-a3", "x" * 26, "x" * 25 + "2", "swap2", "swap3",
    ]  # fmt: skip


# Identities


def test_the_same_randomness_gives_the_same_plan() -> None:
    system = machine(primary(), blank())
    make: Callable[[], Plan] = lambda: make_plan(  # noqa: E731
        system, system.disks[1], Wish(), fstab(system), known()
    )
    assert make() == make()


def test_labels_fit_their_file_systems() -> None:
    fresh = known()
    assert fresh.label("root", "ext4") == "dpsr-root"
    assert fresh.label("efi", "vfat") == "DPSR-EFI"
    assert fresh.label("a-very-long-name-of-it", "ext4") == "dpsr-a-very-long"
    assert fresh.label("a-very-long-name-of-it", "vfat") == "DPSR-A-VERY"
    assert fresh.label("a-very-long-name-of-it", "ext4") == "dpsr-a-very-lon2"


def test_identities_have_the_form_that_blkid_prints() -> None:
    fresh = known()
    assert len(fresh.fat_id()) == 9
    found = fresh.identity("dpsr-control", "vfat", "DPSR-CONTRL")
    assert found.uuid[4] == "-"
    assert found.uuid == found.uuid.upper()
    assert found.partuuid == found.partuuid.lower()
    assert fresh.identity("dpsr-bios", "").uuid == ""


def test_what_the_machine_knows_is_never_given_again() -> None:
    first, second = known().uuid(), known().fat_id()
    fresh = known()
    fresh.avoid([first.upper(), second.lower()])
    assert fresh.uuid() != first
    fresh = known()
    fresh.avoid([second])
    assert fresh.fat_id() != second


def test_labels_of_another_dpsr_disk_are_taken_but_not_those_that_go() -> None:
    def labelled(path: str) -> Disk:
        return disk(path, 40 * GIB, part(f"{path}1", 1, MIB, GIB, "ext4", label="dpsr-root"))

    target, other = labelled("/dev/sdb"), labelled("/dev/sdc")
    assert plan_for(target).slots[0].identity.label == "dpsr-root"
    both = machine(primary(), target, other)
    assert plan_for(target, both).slots[0].identity.label == "dpsr-root2"
    everything = set(identities(both, but_labels_of=target))
    assert {part.uuid for disk in both.disks for part in disk.partitions} <= everything
