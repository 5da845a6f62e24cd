# SPDX-License-Identifier: GPL-3.0-or-later
"""The place of our entry, and firmwares that do as they please."""

import random
from collections.abc import Callable

import pytest

from grub.efibootmgr import _reason
from grub.nvram import parse
from grub.order import LABEL, LOADER, Wish, ensure_entry, next_step, place
from tests.support.fake_efibootmgr import FakeFirmware

CONTROL = "aaaaaaaa-0000-4000-8000-000000000001"
PRIMARY = "bbbbbbbb-0000-4000-8000-000000000002"
OTHER = "cccccccc-0000-4000-8000-000000000003"
OURS = (LABEL, f"HD(2,GPT,{CONTROL},0x1000,0x1000)/File({LOADER})")
DEBIAN = ("debian", f"HD(1,GPT,{PRIMARY},0x800,0x1000)/File(\\EFI\\debian\\shimx64.efi)")
UPDATER = (
    "Updater",
    f"HD(1,GPT,{PRIMARY},0x800,0x1000)/File(\\EFI\\debian\\fwupdx64.efi)",
)
SETUP = ("UiApp", "FvFile(462caa21-7614-4503-836e-8ab6f4662331)")
DISK = ("UEFI disk", "PciRoot(0x0)/Pci(0x3,0x0)")
SHELL = ("Shell", "FvFile(7c04a583-9e3e-4f1c-ad65-e05268d0b4d1)")
PXE = ("UEFI PXEv4", "PciRoot(0x0)/MAC(0011223344ff,1)/IPv4(0.0.0.0)")
USB = ("UEFI: stick", "PciRoot(0x0)/USB(3,0)")
WISH = Wish(CONTROL, frozenset({PRIMARY}))


def machine(*entries: tuple[str, str], **how: object) -> FakeFirmware:
    """A firmware with these entries, in this order; the first started the system."""
    numbers = range(len(entries))
    return FakeFirmware(dict(enumerate(entries)), list(numbers), current=0, control=CONTROL, **how)  # type: ignore[arg-type]


def ensure(firmware: FakeFirmware, **others: object) -> list[str]:
    return ensure_entry("/dev/sdb", 2, CONTROL.upper(), [PRIMARY], manager=firmware, **others)  # type: ignore[arg-type]


def labels(firmware: FakeFirmware) -> list[str]:
    return [firmware.entries[number][0] for number in firmware.order]


@pytest.mark.parametrize(
    ("entries", "wanted"),
    [
        ((DEBIAN, SETUP, DISK, SHELL), ["debian", LABEL, "UiApp", "UEFI disk", "Shell"]),
        ((DEBIAN, DEBIAN, PXE, USB), ["debian", "debian", LABEL, "UEFI PXEv4", "UEFI: stick"]),
        # a machine that asks the network first keeps doing so
        ((PXE, DEBIAN, SHELL), ["UEFI PXEv4", "debian", LABEL, "Shell"]),
        # an updater behind the shell is the primary's too, and never reached by itself
        ((DEBIAN, SHELL, UPDATER), ["debian", LABEL, "Shell", "Updater"]),
        ((DEBIAN, SETUP, UPDATER, PXE), ["debian", "UiApp", "Updater", LABEL, "UEFI PXEv4"]),
        # the firmware's own entry for the primary's disk names no partition
        ((DISK, SETUP, SHELL), ["UEFI disk", LABEL, "UiApp", "Shell"]),
        ((DEBIAN,), ["debian", LABEL]),
    ],
)  # fmt: skip
def test_it_stands_directly_after_the_primary(
    entries: tuple[tuple[str, str], ...], wanted: list[str]
) -> None:
    firmware = machine(*entries)
    assert ensure(firmware) == []
    assert labels(firmware) == wanted
    assert firmware.asked == ["create", "set_order"]
    assert ensure(firmware) == []
    assert firmware.asked == ["create", "set_order"], "a second run changes nothing"


def test_without_an_entry_of_the_primary_it_stands_before_what_would_stop() -> None:
    firmware = machine(USB, SETUP, SHELL)
    said = ensure(firmware)
    assert labels(firmware)[:2] == [LABEL, "UEFI: stick"]
    assert len(said) == 1
    assert "No boot entry of the primary" in said[0]


def test_an_empty_memory_gets_its_first_entry() -> None:
    firmware = FakeFirmware({}, [], control=CONTROL)
    assert len(ensure(firmware)) == 1
    assert labels(firmware) == [LABEL]


def test_a_misplaced_entry_is_moved_and_all_else_stays() -> None:
    firmware = machine(DEBIAN, SETUP, SHELL, OURS)
    assert ensure(firmware) == []
    assert firmware.order == [0, 3, 1, 2]
    assert firmware.asked == ["set_order"]


def test_duplicates_stale_and_wrong_entries_go_and_the_one_in_the_order_stays() -> None:
    stale = (LABEL, OURS[1].replace(CONTROL, OTHER))
    wrong = (LABEL, OURS[1].replace("BOOTX64", "BOOTIA32"))
    firmware = machine(DEBIAN, stale, wrong, SHELL)
    firmware.entries |= {7: OURS, 9: OURS}
    firmware.order.append(9)
    assert ensure(firmware) == []
    assert firmware.order == [0, 9, 3]
    assert sorted(firmware.entries) == [0, 3, 9]


def test_the_entry_of_another_dpsr_disk_stays() -> None:
    second = (LABEL, OURS[1].replace(CONTROL, OTHER))
    firmware = machine(DEBIAN, second, SHELL)
    assert ensure(firmware, others=[OTHER.upper()]) == []
    assert firmware.order == [0, 3, 1, 2]


def test_an_entry_that_is_switched_off_is_switched_on() -> None:
    firmware = machine(DEBIAN, OURS, off={1})
    assert ensure(firmware) == []
    assert firmware.off == set()


def test_numbers_in_the_order_without_an_entry_are_left_out() -> None:
    firmware = machine(DEBIAN, SHELL)
    firmware.order = [0x80, 0, 1]
    assert ensure(firmware) == []
    assert firmware.order == [0, 2, 1]


@pytest.mark.parametrize("what", ["read", "create", "set_order"])
def test_a_firmware_that_refuses_is_a_warning_with_the_next_step(what: str) -> None:
    said = ensure(machine(DEBIAN, SHELL, refuses=what))
    assert len(said) == 1
    assert "read-only" in said[0]
    assert "boot menu" in said[0]


@pytest.mark.parametrize(
    ("what", "entries"),
    [
        ("create", (DEBIAN, SHELL)),
        ("set_order", (DEBIAN, SHELL)),
        ("delete", (DEBIAN, OURS, OURS)),
        ("activate", (DEBIAN, OURS)),
    ],
)
def test_a_firmware_that_does_not_keep_what_it_took_is_noticed(
    what: str, entries: tuple[tuple[str, str], ...]
) -> None:
    said = ensure(machine(*entries, ignores=what, off={1} if what == "activate" else set()))
    assert len(said) == 1
    assert "did not keep it" in said[0]


def _lose_ours(firmware: FakeFirmware) -> None:
    for number, (label, _) in list(firmware.entries.items()):
        if label == LABEL:
            del firmware.entries[number]
            firmware.order = [n for n in firmware.order if n != number]


def _put_ours_last(firmware: FakeFirmware) -> None:
    firmware.order.sort(key=lambda number: firmware.entries[number][0] == LABEL)


def _shuffle(firmware: FakeFirmware) -> None:
    random.shuffle(firmware.order)


@pytest.mark.parametrize("mischief", [_lose_ours, _put_ours_last])
def test_a_firmware_that_loses_or_reorders_is_given_up(
    mischief: Callable[[FakeFirmware], None],
) -> None:
    firmware = machine(DEBIAN, SETUP, SHELL, after=mischief)
    said = ensure(firmware)
    assert len(said) == 1
    assert "did not keep it" in said[0]
    assert len(firmware.asked) < 6


def test_a_firmware_that_shuffles_for_ever_ends_the_run_too() -> None:
    firmware = machine(DEBIAN, *[SHELL] * 8, after=_shuffle)
    said = ensure(firmware)
    assert len(firmware.asked) < 30
    assert said == [] or "did not keep it" in said[0]


def test_a_full_memory_is_said() -> None:
    said = ensure(machine(DEBIAN, SHELL, capacity=2))
    assert "full" in said[0]


@pytest.mark.parametrize(
    ("stderr", "word"),
    [
        ("EFI variables are not supported on this system.\n", "efivarfs"),
        ("Could not prepare Boot variable: Read-only file system\n", "read-only"),
        ("Could not prepare Boot variable: No space left on device\n", "full"),
        ("Could not delete variable: No such file or directory\n", "No such file or directory."),
        ("", "did not say why"),
    ],
)
def test_what_efibootmgr_says_becomes_a_sentence(stderr: str, word: str) -> None:
    assert word in _reason(stderr)


def test_any_order_of_any_machine_is_only_moved_within() -> None:
    kinds = [DEBIAN, UPDATER, SETUP, DISK, SHELL, PXE, USB]
    draw = random.Random(5)
    for _ in range(500):
        firmware = machine(*draw.choices(kinds, k=draw.randrange(1, 8)))
        before = list(firmware.order)
        ensure(firmware)
        new = next(n for n, entry in firmware.entries.items() if entry == OURS)
        assert [number for number in firmware.order if number != new] == before
        nvram = parse(firmware.text())
        assert next_step(nvram, WISH) is None
        assert place(nvram, new, WISH) == nvram.order
        # between the first entry of the primary and ours, nothing stops the machine
        names = [firmware.entries[n] for n in firmware.order]
        if DEBIAN in names or UPDATER in names:
            first = min(names.index(entry) for entry in (DEBIAN, UPDATER) if entry in names)
            assert first < names.index(OURS)
            assert not {SHELL, PXE, USB} & set(names[first : names.index(OURS)])
