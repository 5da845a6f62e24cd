# SPDX-License-Identifier: GPL-3.0-or-later
"""A power cut tore the vault's superblock between its two sectors: nothing is lost by it."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.vault.mend import crc32c, is_whole, mend, vault_at, vault_unchanged
from builder.vault.recovery import recover
from core import namespace
from core.errors import CommandFailed, ReadFailed
from core.run import run
from tests.support import block
from tests.support.rollback_command import Command, prepared
from tests.support.vault_disk import STATE_AT

AT, SIZE, SECTOR = 1024, 1024, 512
SIZES = {"1k": 32 << 20, "4k": 136 << 20}


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(namespace, "RUNTIME", tmp_path / "run")


@pytest.fixture(params=SIZES)
def cut_off(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A vault as it is when the power fails while it is mounted; its last files in the journal."""
    options = ("-q", "-t", "ext4", "-b", "1024" if request.param == "1k" else "4096")
    path = block.image(tmp_path / "vault", SIZES[request.param])
    run("mke2fs", *options, "-m", "0", "-i", "262144", str(path))
    copy = tmp_path / "cut-off"
    with block.loop(path) as device, block.mounted(device, tmp_path / "mnt") as folder:
        (folder / "gone").write_bytes(bytes(100_000))
        with open(folder / "gone", "rb"):  # an orphan
            (folder / "kept").write_bytes(b"kept")
            (folder / "gone").unlink()
            run("sync", "--file-system", str(folder))
            copied(path, copy)
    return copy


def copied(source: Path, target: Path) -> None:
    run("cp", "--sparse=always", str(source), str(target))


def superblock(path: Path) -> bytes:
    with open(path, "rb") as stream:
        stream.seek(AT)
        return stream.read(SIZE)


def tear(path: Path, sector: int) -> None:
    """One sector is of another write than the other: no checksum fits."""
    other = bytearray(superblock(path))
    other[0x30:0x34] = struct.pack("<I", 12345)  # when it was written last
    other[0x248:0x24C] = struct.pack("<I", 54321)
    other[-4:] = struct.pack("<I", crc32c(bytes(other[:-4])))
    assert is_whole(bytes(other))
    with open(path, "r+b") as stream:
        stream.seek(AT + sector * SECTOR)
        stream.write(other[sector * SECTOR :][:SECTOR])
    assert not is_whole(superblock(path))


@pytest.mark.parametrize("sector", [0, 1])
def test_it_is_mended_and_nothing_is_lost(cut_off: Path, sector: int) -> None:
    tear(cut_off, sector)
    run("e2fsck", "-p", str(cut_off), ok=(8,))  # what could not be done without
    with vault_at(str(cut_off)) as folder:
        assert sorted(path.name for path in folder.iterdir()) == ["kept", "lost+found"]
        assert (folder / "kept").read_bytes() == b"kept"
    run("e2fsck", "-f", "-n", str(cut_off))


def test_the_power_fails_again_while_it_is_mended(cut_off: Path) -> None:
    """Half a superblock more, or the check that follows never came."""
    tear(cut_off, 1)
    torn = superblock(cut_off)
    trial = cut_off.with_name("trial")
    copied(cut_off, trial)
    seen: list[bytes] = []

    def no_check(*argv: str, **_: object) -> str:
        seen.append(superblock(Path(argv[-1])))
        return ""

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("builder.vault.mend.run", no_check)
        assert mend(str(trial))
    for half in (torn[:SECTOR] + seen[0][SECTOR:], seen[0][:SECTOR] + torn[SECTOR:], seen[0]):
        with open(trial, "r+b") as stream:
            stream.seek(AT)
            stream.write(half)
        assert mend(str(trial)), "it was not seen that this was not brought to an end"
        assert not mend(str(trial))
        run("e2fsck", "-f", "-n", str(trial))
        copied(cut_off, trial)


def test_a_backup_that_is_torn_too_is_passed_over(cut_off: Path) -> None:
    tear(cut_off, 0)
    size = struct.unpack_from("<I", superblock(cut_off), 0x18)[0]
    first = {0: 8193 * 1024, 2: 32768 * 4096}[size]
    with open(cut_off, "r+b") as stream:
        stream.seek(first + 0x300)
        stream.write(b"\xff" * 8)
    if size == 2:  # two block groups: there is no other
        assert not mend(str(cut_off))
        with pytest.raises(CommandFailed):
            vault_at(str(cut_off)).__enter__()
    else:
        assert mend(str(cut_off))
        run("e2fsck", "-f", "-n", str(cut_off))


def test_one_that_is_whole_is_left_alone(cut_off: Path) -> None:
    before = superblock(cut_off)
    assert not mend(str(cut_off))
    assert superblock(cut_off) == before


def test_who_only_looks_writes_nothing_and_says_what_mends_it(cut_off: Path) -> None:
    with vault_unchanged(str(cut_off)) as folder:
        assert folder.is_dir()
    tear(cut_off, 1)
    before = superblock(cut_off)
    with pytest.raises(ReadFailed) as caught, vault_unchanged(str(cut_off)):
        pass
    assert "Nothing is lost" in str(caught.value)
    assert "dpsr update" in caught.value.hint
    assert superblock(cut_off) == before


# --- from end to end ------------------------------------------------------------------------------


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Command]:
    with prepared(tmp_path / "disk") as made:
        yield made


def torn(command: Command) -> None:
    run("blockdev", "--flushbufs", command.device)
    tear(command.image, 1)
    run("blockdev", "--flushbufs", command.device)


def test_the_rescue_system_mends_it(command: Command) -> None:
    command.disk.say(state="rolling-back", to=1)
    torn(command)
    disk = command.disk
    state = recover(str(disk.disk), STATE_AT, command.device, disk.slot_path, disk.screen)
    assert (state.state, state.gen) == ("clean", 1)
    assert disk.content == command.contents[0]


def test_a_rollback_mends_it_and_its_list_says_so(command: Command) -> None:
    torn(command)
    said = command.run("rollback")
    assert said.status == 52, said
    assert "`dpsr update` mends it" in said.err
    said = command.run("rollback", "2", "--yes")
    assert said.status == 0, said
    assert command.disk.content == command.contents[1]
    listed = command.run("rollback", "--json")
    assert [each["generation"] for each in json.loads(listed.out)["generations"]] == [2, 1]
