# SPDX-License-Identifier: GPL-3.0-or-later
"""The rescue system's program runs with what its initrd holds, and nothing else."""

import shutil
import sys
from pathlib import Path

from core.run import run
from images.rescue import ROOMS
from tests.support.data import DATA

PACKED = ("xxhash", "zstandard")
CODE = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in {*sys.stdlib_module_names, *%r}:
            raise ImportError(f"{name} is not in the initrd")

sys.meta_path.insert(0, Absent())
sys.path.insert(0, %r)
import recovery.unattended
import builder.vault.recovery
import xxhash, zstandard
"""


def test_it_needs_nothing_that_is_not_packed(tmp_path: Path) -> None:
    for room in ROOMS:
        shutil.copytree(DATA.parents[1] / room, tmp_path / room)
    run(sys.executable, "-c", CODE % ((*ROOMS, *PACKED), str(tmp_path)))
