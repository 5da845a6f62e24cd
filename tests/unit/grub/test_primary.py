# SPDX-License-Identifier: GPL-3.0-or-later
"""The entry in the primary's menu, and GRUB's choice there, with programs that only pretend."""

from dataclasses import replace
from pathlib import Path

import pytest

from core.errors import CannotWrite, CommandFailed, NoWayThere
from grub import envblock, primary
from grub.primary import PrimaryMenu, menu
from tests.support.two_sides import SET


class Programs:
    """update-grub and grub-editenv, as far as they matter here."""

    def __init__(self, menu: PrimaryMenu) -> None:
        self.menu = menu
        self.env: dict[str, str] = {}
        self.below = ""
        self.kind = "ext2"
        self.broken = ""
        self.updates = 0

    def run(self, *argv: str, timeout: float = 60) -> str:
        if argv[0] == self.broken:
            raise CommandFailed(argv[0], 1, "no space left")
        if argv[0] == "update-grub":
            self.updates += 1
            default = self.menu.chosen() or "0"
            ours = self.menu.ours.read_text() if self.menu.ours.exists() else ""
            self.menu.config.write_text(f'set default="{default}"\n{ours}')
        elif argv[0] == "grub-probe":
            return self.below if "abstraction" in argv[1] else self.kind
        elif argv[2] == "list":
            return "".join(f"{key}={value}\n" for key, value in self.env.items())
        elif argv[2] == "set":
            key, _, value = argv[3].partition("=")
            self.env[key] = value
        else:
            self.env.pop(argv[3], None)
        return ""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    paths = [tmp_path / name for name in ("menu.cfg", "grub.cfg", "grubenv", "switched")]
    paths[1].write_text('set default="0"\n')
    paths[2].write_bytes(envblock.EMPTY)
    found = Programs(PrimaryMenu(*paths))
    monkeypatch.setattr(primary, "run", found.run)
    monkeypatch.setattr(primary, "have", lambda _program: True)
    return found


def test_the_entry_names_the_control_partition_and_never_reads_its_configuration() -> None:
    text = menu([SET, replace(SET, name="night", control_uuid="BBBB-0001")])
    assert "--id dpsr {" in text
    assert "dpsr_start D0D0-1234" in text
    assert "Start from the DPSR disk night" in text
    assert "--id dpsr-night {" in text
    assert "configfile" not in text
    assert menu([]) == ""


def test_offered_once_and_taken_away(programs: Programs) -> None:
    assert programs.menu.offer([SET]) == []
    assert programs.menu.offer([SET]) == []
    assert programs.updates == 1
    programs.menu.config.write_text("somebody made it anew without us")
    assert programs.menu.offer([SET]) == []
    assert programs.updates == 2
    programs.menu.start_always("dpsr")
    programs.menu.start_once("dpsr")
    assert programs.menu.end("system", []) == []
    assert "dpsr" not in programs.menu.config.read_text()
    assert (programs.env, programs.menu.chosen()) == ({}, "")


def test_for_good_and_back(programs: Programs) -> None:
    programs.menu.offer([SET])
    programs.menu.start_always("dpsr")
    assert 'set default="dpsr"' in programs.menu.config.read_text()
    assert programs.menu.chosen() == "dpsr"
    before = programs.updates
    programs.menu.start_always("dpsr")
    assert programs.updates == before
    programs.menu.start_always("")
    assert 'set default="0"' in programs.menu.config.read_text()
    assert not programs.menu.switched.exists()


def test_cut_off_before_update_grub_the_same_command_goes_on(programs: Programs) -> None:
    programs.menu.switched.write_text(primary.SWITCHED.format(id="dpsr"))
    programs.menu.start_always("dpsr")
    assert 'set default="dpsr"' in programs.menu.config.read_text()
    programs.menu.switched.unlink()
    programs.menu.start_always("")
    assert 'set default="0"' in programs.menu.config.read_text()


def test_once(programs: Programs) -> None:
    programs.menu.start_once("dpsr")
    assert programs.menu.next() == "dpsr"
    programs.menu.forget_once()
    assert programs.env == {}


@pytest.mark.parametrize(
    ("below", "kind"), [("lvm", "ext2"), ("diskfilter mdraid1x", "ext2"), ("", "btrfs")]
)
def test_where_grub_cannot_forget_it_once_is_refused(
    programs: Programs, below: str, kind: str
) -> None:
    programs.below, programs.kind = below, kind
    with pytest.raises(NoWayThere, match="Nothing was changed"):
        programs.menu.start_once("dpsr")
    assert programs.env == {}


def test_what_fails_is_said(programs: Programs) -> None:
    programs.broken = "grub-editenv"
    with pytest.raises(CannotWrite, match="no space left"):
        programs.menu.start_once("dpsr")
    programs.broken = "update-grub"
    with pytest.raises(CannotWrite, match="no space left"):
        programs.menu.start_always("dpsr")
    assert len(programs.menu.offer([SET])) == 1


def test_a_default_that_somebody_sets_after_us_is_noticed(
    programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(primary, "run", lambda *_argv, **_how: "")
    with pytest.raises(CannotWrite, match="wanted default"):
        programs.menu.start_always("dpsr")


def test_a_system_without_grub_is_left_alone(
    programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(primary, "have", lambda _program: False)
    assert len(programs.menu.offer([SET])) == 1
    assert programs.menu.offer([]) == []
    assert programs.updates == 0
