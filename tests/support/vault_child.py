# SPDX-License-Identifier: GPL-3.0-or-later
"""One job on a disk of files, in a process of its own, so that a test may kill it."""

import sys
from pathlib import Path

from builder.copying import undo
from tests.support.vault_disk import VaultDisk, next_content


def main() -> None:
    folder, job = sys.argv[1:]
    disk = VaultDisk(Path(folder))
    undo.ROOM = 4 * 4096  # type: ignore[misc]
    if job == "update":
        disk.update(next_content(disk.content, 2))
    elif job == "recover":
        disk.recover()
    else:
        disk.roll_back(1)


if __name__ == "__main__":
    main()
