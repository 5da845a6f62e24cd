# SPDX-License-Identifier: GPL-3.0-or-later
"""The control partition, mounted to be written: sound before, on the disk to the last bit after.

FAT keeps no journal. What a run that was cut off left may share its clusters with files that were
written later; to remove it as it is would tear holes into them, and turn the mount read-only.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from core.files import sync_device, sync_folder
from core.namespace import mounted
from core.run import run
from core.screen import Screen

MENDED: Final = "The control partition had been left half written, and was mended"
_TRIES: Final = 3
"""What one check has mended may be wrong in the eyes of the next."""
_CHANGED: Final = re.compile(r"filesystem was changed", re.IGNORECASE)
_MATTERS: Final = re.compile(r"share clusters|truncat|reclaim|file size", re.IGNORECASE)
"""Not the mark that nobody unmounted it, nor how many clusters are free."""
_SALVAGED: Final = re.compile(r"fsck\d{4}\.rec", re.IGNORECASE)


@contextmanager
def control_at(device: str, screen: Screen) -> Iterator[Path]:
    """Mount the control partition for the length of the block, checked first, and yield it.

    When it is unmounted again all of it would outlast a power cut: the state sector, which is
    written past it, must not be on the disk before what it speaks of. Raises CommandFailed,
    OSError.
    """
    sound(device, screen)
    try:
        with mounted(device, "control", fstype="vfat") as folder:
            _tidy(folder)
            yield folder
    finally:
        sync_device(device)


def sound(device: str, screen: Screen) -> None:
    """Mend the control partition, which is not mounted. Raises CommandFailed."""
    said = ""
    for _ in range(_TRIES):
        found = run("fsck.fat", "-a", device, ok=(0, 1), timeout=600)
        said += found
        if not _CHANGED.search(found):
            break
    if _MATTERS.search(said):
        screen.note(MENDED)


def _tidy(control: Path) -> None:
    """What the check found without a name is nobody's, and would take up the room for ever."""
    found = [path for path in control.iterdir() if _SALVAGED.fullmatch(path.name)]
    for path in found:
        path.unlink()
    if found:
        sync_folder(control)
