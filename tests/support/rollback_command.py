# SPDX-License-Identifier: GPL-3.0-or-later
"""`dpsr rollback` itself, in a process of its own, on a DPSR disk made of files.

The command finds the files in the place of a disk; its vault is an ext4 on a loop device.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

from core.run import run
from tests.support.block import image, loop
from tests.support.vault_disk import STATE_AT, VaultDisk, next_content

ROOT: Final = Path(__file__).parents[2]
PATIENCE: Final = 60.0


@dataclass
class Ended:
    """How the command ended."""

    status: int
    out: str
    err: str


@dataclass
class Command:
    """A disk of files, and the command on it."""

    disk: VaultDisk
    device: str
    """Of the vault."""
    contents: list[dict[str, bytes]]
    """What the slots held, generation by generation."""
    image: Path

    def dpsr(self, *words: str, **environment: str) -> "subprocess.Popen[str]":
        """Start it; nobody is there to answer."""
        return subprocess.Popen(
            [sys.executable, "-m", __name__, str(self.disk.folder), self.device, *words],
            cwd=ROOT, env=os.environ | environment, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def run(self, *words: str) -> Ended:
        """Run it to its end."""
        return _end(self.dpsr(*words))

    def stopped_at(self, point: str, number: signal.Signals, *words: str) -> Ended:
        """Run it up to a named point, and send it a signal there."""
        points = self.disk.folder / "points"
        points.mkdir(exist_ok=True)
        hold, reached = points / point, points / f"{point}.reached"
        hold.touch()
        child = self.dpsr(*words, DPSR_TEST_POINTS=str(points))
        try:
            deadline = time.monotonic() + PATIENCE
            while not reached.exists():
                assert child.poll() is None, f"it never came to {point}: {_end(child)}"
                assert time.monotonic() < deadline
                time.sleep(0.005)
            child.send_signal(number)
            ended = _end(child)
        finally:
            child.kill()
            hold.unlink()
            reached.unlink(missing_ok=True)
        return ended

    @property
    def record(self) -> dict[str, Any]:
        """What the primary has on record."""
        found: dict[str, Any] = json.loads((self.disk.folder / "record/system.json").read_text())
        return found


def _end(child: "subprocess.Popen[str]") -> Ended:
    out, err = child.communicate(timeout=PATIENCE)
    return Ended(child.returncode, out, err)


@contextmanager
def prepared(folder: Path, generations: int = 3, vault_size: int = 16 << 20) -> Iterator[Command]:
    """A disk with some generations on it."""
    disk = VaultDisk.make(folder)
    contents = [disk.content]
    for seed in range(2, generations + 1):
        contents.append(next_content(contents[-1], seed))
        disk.update(contents[-1])
    path = image(folder / "vault.image", vault_size)
    options = ("-q", "-t", "ext4", "-b", "1024", "-m", "0", "-d", str(disk.vault))
    run("mke2fs", *options, str(path))
    with loop(path) as device:
        yield Command(disk, device, contents, path)


def main() -> None:
    """The child: the files take the place of a disk, all else is the command."""
    folder, device, *words = sys.argv[1:]
    disk = VaultDisk(Path(folder))
    from builder import target as found_by
    from core import namespace, record, settings
    from dpsr import main as command
    from recovery import rollback as room

    target = SimpleNamespace(
        known=SimpleNamespace(name="system", state_offset=STATE_AT, serial="FILES", wwn=""),
        machine=None,
        disk=SimpleNamespace(path=str(disk.disk), model="Files", serial="FILES", wwn=""),
        vault=device,
        path=disk.slot_path,
    )
    vars(settings)["load"] = settings.Settings
    vars(found_by)["check_disk"] = lambda *_, **__: None
    vars(namespace)["RUNTIME"] = disk.folder / "run"
    for function in (record.read_record, record.write_record):
        function.__defaults__ = (disk.folder / "record",)
    vars(room)["find_target"] = lambda *_: target
    vars(room)["LOCK"] = disk.folder / "lock"
    sys.argv = ["dpsr", *words]
    command.main()


if __name__ == "__main__":
    main()
