# SPDX-License-Identifier: GPL-3.0-or-later
"""The guard's files on the primary; tests/device lets GRUB's checker read its script."""

from dataclasses import replace
from pathlib import Path

import pytest

from core.errors import CannotWrite, GuardImpossible
from dpsr import turns
from grub import envblock
from grub import guard as guards
from grub.guard import MOST, UNITS, Facts, PrimaryGuard, script
from grub.primary import PrimaryMenu
from recovery import guard as room
from tests.support import machines

CONTROL = "D0D0-1234"


class Asked:
    """What was asked of other programs."""

    def __init__(self, guard: PrimaryGuard) -> None:
        self.guard = guard
        self.said: list[str] = []
        self.silent = False

    def run(self, *argv: str, timeout: float = 60) -> str:
        self.said.append(argv[0])
        if argv[0] == "update-grub" and not self.silent:
            ours = self.guard.ours
            self.guard.menu.config.write_text(ours.read_text() if ours.exists() else "")
        return ""


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Asked:
    menu = PrimaryMenu(config=tmp_path / "grub.cfg")
    menu.config.write_text("")
    found = Asked(
        PrimaryGuard(menu, tmp_path / "guard.cfg", tmp_path / "panic.cfg", tmp_path / "units")
    )
    monkeypatch.setattr(guards, "run", found.run)
    monkeypatch.setattr("grub.primary.run", found.run)
    monkeypatch.setattr(room, "GOOD", tmp_path / "good-start")
    return found


@pytest.fixture
def facts(tmp_path: Path) -> Facts:
    return Facts(3, CONTROL, str(tmp_path / "guard.env"))


def spend(facts: Facts, left: int, *over: tuple[str, str]) -> None:
    """What GRUB does."""
    Path(facts.counter).write_bytes(envblock.encode([("dpsr_left", str(left)), *over]))


def test_on_and_off(asked: Asked, facts: Facts) -> None:
    guard = asked.guard
    assert room.status(guard) == room.Watch(on=False)
    guard.on(facts)
    assert guard.facts() == facts
    assert room.status(guard) == room.Watch(on=True, tries=3, left=3)
    assert all((guard.units / folder / unit).is_symlink() for folder, unit in UNITS)
    guard.on(facts)
    guard.off()
    assert room.status(guard) == room.Watch(on=False)
    assert not Path(facts.counter).exists()
    assert not any((guard.units / folder / unit).is_symlink() for folder, unit in UNITS)
    assert "dpsr" not in guard.menu.config.read_text()
    before = list(asked.said)
    guard.off()
    assert asked.said == before


def test_a_good_start_gives_all_tries_back_but_not_after_a_failover(
    asked: Asked, facts: Facts
) -> None:
    guard = asked.guard
    assert not room.good_start(guard)
    guard.on(facts)
    spend(facts, 1)
    assert room.good_start(guard)
    assert room.GOOD.exists()
    assert guard.left() == 3
    spend(facts, 0)
    assert room.good_start(guard), "the last try was a good one"
    assert guard.left() == 3
    spend(facts, 0, ("dpsr_over", "1"))
    assert not room.good_start(guard)
    assert room.status(guard) == room.Watch(on=True, tries=3, left=0, over=True)
    assert "HAS ACTED" in turns.guard(room.status(guard))
    assert room.reset(guard) == room.Watch(on=True, tries=3, left=3)


def test_it_follows_a_disk_that_was_made_anew_and_no_other(asked: Asked, facts: Facts) -> None:
    guard = asked.guard
    assert guard.follow((), "11AA-22BB") == []
    assert guard.facts() is None, "it is off"
    guard.on(facts)
    assert guard.follow({CONTROL, "11AA-22BB"}, "11AA-22BB") == []
    assert guard.facts() == facts, "another set's disk was prepared"
    assert guard.follow({"11AA-22BB"}, "11AA-22BB") == []
    assert guard.facts() == replace(facts, control="11AA-22BB")


def test_an_esp_that_is_not_mounted_is_not_written_below(asked: Asked, facts: Facts) -> None:
    guard = replace(asked.guard, is_mount=lambda _: False)
    facts = replace(facts, counter=str(Path(facts.counter).parent / "efi/EFI/dpsr/g"), esp="AB-CD")
    replace(guard, is_mount=lambda _: True).on(facts)
    spend(facts, 1)
    with pytest.raises(CannotWrite, match="not mounted"):
        guard.reset()


def test_the_counter_is_written_where_it_is(asked: Asked, facts: Facts) -> None:
    asked.guard.on(facts)
    spend(facts, 1)
    before = Path(facts.counter).stat().st_ino
    asked.guard.reset()
    assert Path(facts.counter).stat().st_ino == before
    assert Path(facts.counter).stat().st_size == envblock.SIZE


def test_a_damaged_counter_counts_for_nothing_and_is_mended(asked: Asked, facts: Facts) -> None:
    asked.guard.on(facts)
    Path(facts.counter).write_bytes(b"x" * 1024)
    assert asked.guard.left() is None
    assert room.good_start(asked.guard)
    assert asked.guard.left() == 3


def test_a_menu_without_it_is_noticed(asked: Asked, facts: Facts) -> None:
    asked.silent = True
    with pytest.raises(CannotWrite, match="does not hold the guard"):
        asked.guard.on(facts)


def test_forgetting_the_disk_ends_its_guard_and_no_other(asked: Asked, facts: Facts) -> None:
    asked.guard.on(facts)
    assert asked.guard.end("another disk") == []
    assert asked.guard.facts() is not None
    assert asked.guard.end(CONTROL) == []
    assert asked.guard.facts() is None


def test_the_script_counts_down_and_stops_at_none() -> None:
    text = script(Facts(3, CONTROL, "/boot/grub/dpsr-guard.env"))
    for left in range(1, MOST + 1):
        assert f'if [ "$dpsr_left" = {left} ]; then set dpsr_next={left - 1}; fi' in text
    assert "dpsr_env=$prefix/dpsr-guard.env" in text
    assert "sleep --interruptible" in text
    assert "configfile" not in text
    on_esp = script(Facts(3, CONTROL, "/boot/efi/EFI/dpsr/guard.env", "1A2B-3C4D"))
    assert "($dpsr_e)/EFI/dpsr/guard.env" in on_esp


def test_where_grub_cannot_write_it_is_refused() -> None:
    machine = machines.machine(machines.primary(), firmware="uefi")
    assert room.place_of(machine, 3, CONTROL, "lvm").esp == "1A2B-3C4D"
    bios = machines.machine(machines.primary(), firmware="bios")
    assert room.place_of(bios, 3, CONTROL, None).counter == room.BESIDE_GRUB
    with pytest.raises(GuardImpossible, match="lvm"):
        room.place_of(bios, 3, CONTROL, "it lies on lvm")
    without = machines.machine(
        machines.primary(),
        mounts=(machines.mount(machines.primary().partitions[1], "/"),),
        firmware="uefi",
    )
    with pytest.raises(GuardImpossible, match="ESP"):
        room.place_of(without, 3, CONTROL, None)
    with pytest.raises(GuardImpossible, match="from 1 to 9"):
        room.place_of(bios, 10, CONTROL, None)
