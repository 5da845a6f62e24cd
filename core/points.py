# SPDX-License-Identifier: GPL-3.0-or-later
"""Named moments. In production `reach` does nothing; a test waits for one and cuts the power there.

A test sets DPSR_TEST_POINTS to a folder (on a tmpfs: some points lie inside a freeze). A file
there with a point's name makes the program stop at that point: it creates `NAME.reached` and
waits until the file is gone.
"""

import os
import time
from pathlib import Path
from typing import Final

_FOLDER: Final = os.environ.get("DPSR_TEST_POINTS")


def reach(name: str) -> None:
    """Say that the moment `name` has come; return at once unless a test holds it."""
    if _FOLDER is None:
        return
    hold = Path(_FOLDER, name)
    if not hold.exists():
        return
    Path(_FOLDER, f"{name}.reached").touch()
    while hold.exists():
        time.sleep(0.01)
