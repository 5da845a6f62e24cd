# SPDX-License-Identifier: GPL-3.0-or-later
"""Slots on block devices, a vault on ext4 that was not unmounted, and the memory of it all."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from builder.copying import undo
from builder.vault.recovery import recover
from builder.vault.transaction import Transaction
from core.run import run
from tests.support.block import image, loop, mounted
from tests.support.vault_disk import (
    SIZE,
    SLOTS,
    STATE_AT,
    VaultDisk,
    next_content,
    write_content,
)


class OnDevices(VaultDisk):
    """The same disk, its slots being loop devices."""

    devices: dict[int, str]
    running: Transaction

    def slot_path(self, number: int) -> str:
        return self.devices[number]


@pytest.fixture(params=[512, 4096])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OnDevices]:
    VaultDisk.make(tmp_path / "disk")
    with ExitStack() as stack:
        made = OnDevices(tmp_path / "disk")
        made.devices = {
            slot.number: stack.enter_context(
                loop(made.folder / f"slot{slot.number}", "--sector-size", str(request.param))
            )
            for slot in SLOTS
        }
        yield made


def test_an_update_and_its_way_back(disk: OnDevices, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(undo, "ROOM", 8 * 4096)
    before = disk.content
    after = next_content(before, 2)
    disk.update(after)
    assert disk.content == after
    disk.roll_back(1)
    assert disk.content == before


def test_recovery_checks_and_mounts_the_vault(disk: OnDevices, tmp_path: Path) -> None:
    """The power failed while the vault was mounted: its journal has to be replayed."""
    before, state = disk.content, disk.state
    path = image(tmp_path / "vault", 64 << 20)
    run("mke2fs", "-q", "-t", "ext4", str(path))
    after_cut = tmp_path / "vault-after-the-cut"
    with loop(path) as device, mounted(device, tmp_path / "mnt") as folder:
        for each in disk.vault.iterdir():
            shutil.copy(each, folder)
        disk.vault = folder
        with pytest.raises(KeyboardInterrupt):
            interrupted(disk)
        run("blockdev", "--flushbufs", device)
        shutil.copy(path, after_cut)
        # End the run that "lost power", so that the file system can be unmounted.
        disk.running.__exit__(None, None, None)
    flags = run("dumpe2fs", "-h", str(after_cut))
    assert "needs_recovery" in flags
    overwrite(disk, next_content(before, 2))
    disk.say(state="updating", txid=disk.running.txid)
    with loop(after_cut) as device:
        again = recover(str(disk.disk), STATE_AT, device, disk.slot_path, disk.screen)
        assert recover(str(disk.disk), STATE_AT, device, disk.slot_path, disk.screen) == again
    assert again == disk.state == state
    assert disk.content == before


def interrupted(disk: OnDevices) -> None:
    disk.running = disk.transaction()
    write_content(disk.running.begin(SIZE), disk.content, next_content(disk.content, 2))
    raise KeyboardInterrupt


def overwrite(disk: OnDevices, content: dict[str, bytes]) -> None:
    for slot in SLOTS:
        Path(disk.slot_path(slot.number)).write_bytes(content[slot.name])


MEMORY = """
import random, sys
from pathlib import Path
from tests.support.vault_disk import VaultDisk, SLOTS
from builder.copying.direct import buffer
from builder.vault.undoformat import LogSlot
from tests.support import vault_disk
big = LogSlot("root", 3, 1 << 20, 4 << 30)
disk = VaultDisk(Path(sys.argv[1]))
with open(disk.slot_path(3), "r+b") as stream:
    stream.truncate(big.size)
room = buffer(1 << 20)
dice = random.Random(1)
for _ in range(256):
    room[_ * 4096 : (_ + 1) * 4096] = dice.randbytes(4096)
def peak():
    text = Path("/proc/self/status").read_text()
    return int(text.partition("VmHWM:")[2].split()[0])
at_first = peak()
with disk.transaction(slots=(big, SLOTS[1])) as running:
    writer = running.begin(1 << 30)["root"]
    for n in range(20_000):
        writer.write(1 << 20 | dice.randrange(0, 1 << 18) << 13, room[:4096])
    for n in range(400):
        writer.write((3 << 30) + n * (1 << 20), room)
    writer.flush()
print((peak() - at_first) // 1024)
"""


def test_memory_is_bounded(tmp_path: Path) -> None:
    """More than 400 MiB are logged, written and taken back in a few dozen MiB."""
    disk = VaultDisk.make(tmp_path / "disk")
    used = subprocess.run(
        [sys.executable, "-c", MEMORY, str(disk.folder)],
        cwd=Path(__file__).parents[3], check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert 0 < int(used.stdout) < 48, used.stdout


WITHOUT_NUMPY = """
import sys
sys.modules["numpy"] = None
from pathlib import Path
from builder.vault.recovery import finish
from core.screen import PlainScreen
top = Path(sys.argv[1])
finish(str(top / "disk"), 8192, top / "vault", lambda n: str(top / f"slot{n}"), PlainScreen())
"""


def test_the_rescue_system_needs_no_numpy(tmp_path: Path) -> None:
    disk = VaultDisk.make(tmp_path / "disk")
    before, state = disk.content, disk.state
    running = disk.transaction()
    write_content(running.begin(SIZE), before, next_content(before, 2))
    subprocess.run(
        [sys.executable, "-c", WITHOUT_NUMPY, str(disk.folder)],
        cwd=Path(__file__).parents[3], check=True,
    )  # fmt: skip
    assert disk.state == state
    assert disk.content == before
