# SPDX-License-Identifier: GPL-3.0-or-later
"""All that `dpsr verify` does around its reading: a disk in which state, and what of it changes."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from builder import target as found_by
from builder import verify as module
from core import namespace, settings
from core.errors import NotPrepared, NotVerified
from core.model.state import State
from core.run import run
from grub.state import pack
from tests.support.block import image, loop
from tests.support.vault_disk import STATE_AT, Silent
from tests.support.verified_disk import TXID, Disk, make

CLEAN = State(
    "clean", gen=1, taken="2026-11-22T18:00:00+00:00", txid=TXID, slot="1234-ABCD"
)  # fmt: skip


@dataclasses.dataclass
class Command:
    """A disk of files, and the command on it."""

    disk: Disk
    vault: Path
    state: Path

    def say(self, state: State) -> None:
        self.state.write_bytes(bytes(STATE_AT) + pack(state) + bytes(4096))

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """Whatever happens in the block, nothing of the disk is written to."""
        files = (self.disk.slot, self.vault, self.state)
        before = [path.read_bytes() for path in files]
        yield
        assert [path.read_bytes() for path in files] == before


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Command]:
    disk = make(tmp_path)
    made = Command(disk, image(tmp_path / "vault.image", 8 << 20), tmp_path / "state")
    made.say(CLEAN)
    run("mke2fs", "-q", "-t", "ext4", "-d", str(disk.vault), str(made.vault))
    with loop(made.vault) as device:
        known = SimpleNamespace(name="system", state_offset=STATE_AT, serial="FILES", wwn="")
        machine = SimpleNamespace(mount_at=lambda _place: SimpleNamespace(source=str(disk.volume)))
        target: Any = SimpleNamespace(
            known=known, machine=machine, vault=device, path=lambda _number: str(disk.slot),
            disk=SimpleNamespace(path=str(made.state), serial="FILES"),
        )  # fmt: skip
        monkeypatch.setattr(module, "find_target", lambda *_: target)
        monkeypatch.setattr(module, "go_private", lambda: None)
        monkeypatch.setattr(module, "LOCK", tmp_path / "lock")
        monkeypatch.setattr(settings, "load", settings.Settings)
        monkeypatch.setattr(module._Verifier, "_control", lambda _self: ([], []))
        monkeypatch.setattr(found_by, "check_disk", lambda *_, **__: None)
        monkeypatch.setattr(namespace, "RUNTIME", tmp_path / "run")
        yield made


def test_to_read_changes_nothing(command: Command) -> None:
    command.disk.flip(command.disk.place("/srv/large", 9))
    with command.unchanged():
        report = module.verify("system", Silent())
    assert [each.what for each in report.damages] == ["/srv/large"]


def test_repair(command: Command) -> None:
    good = command.disk.slot.read_bytes()
    command.disk.flip(command.disk.place("/srv/large", 9))
    report = module.verify("system", Silent(), repair=True)
    assert (report.blocks, report.mended) == (1, 1)
    assert command.disk.slot.read_bytes() == good
    with command.unchanged():
        assert module.verify("system", Silent()).is_good


def test_a_run_that_was_interrupted_is_ended_first(command: Command) -> None:
    command.say(dataclasses.replace(CLEAN, state="updating", txid=f"{8:032x}"))
    with command.unchanged(), pytest.raises(NotVerified, match="interrupted"):
        module.verify("system", Silent())


def test_a_first_copy_that_is_not_complete(command: Command) -> None:
    command.say(State("building"))
    for repair in (False, True):
        with command.unchanged(), pytest.raises(NotPrepared):
            module.verify("system", Silent(), repair=repair)


def test_the_manifest_is_missing(command: Command) -> None:
    command.say(dataclasses.replace(CLEAN, txid=f"{8:032x}"))
    with command.unchanged(), pytest.raises(NotVerified, match="manifest"):
        module.verify("system", Silent())
