# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine kept just before an update and just after it, and what its DPSR disk held then."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from core.run import run
from images.guest import Guest
from images.vm import DiskSpec
from tests.support import checks, disk_image, oracle_disk
from tests.support.scenario import Story

READY: Final = "ready"
UPDATED: Final = "updated"


@dataclass(slots=True)
class Bench:
    """A machine that is kept just before an update, and what its DPSR disk held then."""

    story: Story
    guest: Guest
    disks: list[DiskSpec]
    before: Path
    """Raw image: generation 1."""
    after: Path
    """Raw image: generation 2."""
    seconds: float
    """That an update took."""

    def begin(self, at: str = READY) -> None:
        """Everything as it was before the update, or before the rollback."""
        self.guest.pull_power(kill=True)
        self.guest.disks = list(self.disks)
        self.guest.load = at
        self.guest.power_on()

    def cut(self) -> Path:
        """Pull the plug; the DPSR disk is kept as it is then (qcow2)."""
        self.guest.pull_power(kill=True)
        path = self.story.folder / "cut.qcow2"
        run("cp", "--reflink=auto", "--sparse=auto", str(self.story.dpsr), str(path))
        return path

    def own(self, image: Path, name: str) -> DiskSpec:
        """A DPSR disk in the bay where it was, in a file of its own."""
        path = image.with_name(f"{name}.qcow2")
        run("cp", "--reflink=auto", "--sparse=auto", str(image), str(path))
        return replace(self.story.spec(), path=path, overlay=False, cache="writeback")

    def state(self, image: Path) -> tuple[str, int]:
        state = oracle_disk.read_state(image, disk_image.table(image))
        return state["state"], int(state["gen"])

    def differing(self, image: Path, wanted: Path | None = None) -> list[str]:
        """Where the slots are not those of `wanted`; of generation 1 where that is not given."""
        return [
            f"byte {at} of the disk, in {part.name}, differs"
            for part in disk_image.table(self.before).parts
            if part.name.startswith("dpsr-slot-")
            for at in [
                checks.first_difference(
                    wanted or self.before, image, part.start, part.end, fat=False
                )
            ]
            if at is not None
        ]

    def picture(self, disk: Path, name: str) -> Path:
        """A disk as a raw image."""
        return disk_image.raw(disk, self.story.folder / f"{name}.raw")
