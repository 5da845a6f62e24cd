# SPDX-License-Identifier: GPL-3.0-or-later
"""This program as a Debian package, to be installed in a guest."""

import shutil
from pathlib import Path
from typing import Final

from core.errors import CommandFailed, ImageUnusable
from core.run import need, run

_ROOT: Final = Path(__file__).parents[1]


def own_package(folder: Path) -> Path:
    """The package that was built beside this program, else the installed one packed anew.

    `folder` is for the latter. Raises ImageUnusable when there is neither.
    """
    built = sorted((_ROOT / "dist").glob("dpsr_*_all.deb"), key=lambda path: path.stat().st_mtime)
    return built[-1] if built else _repacked(folder)


def _repacked(folder: Path) -> Path:
    need("dpkg-query", "dpkg-deb")
    try:
        paths = [Path(line) for line in run("dpkg-query", "--listfiles", "dpsr").splitlines()]
    except CommandFailed:
        raise ImageUnusable(
            "There is no package of dpsr to install in the virtual machine.",
            "Build one with `./run deb`, or name it with --deb.",
        ) from None
    tree = folder / "tree"
    for path in paths:
        there = tree / path.relative_to("/")
        if path.is_symlink():
            there.symlink_to(path.readlink())
        elif path.is_dir():
            there.mkdir(parents=True, exist_ok=True)
            there.chmod(0o755)
        else:
            shutil.copy(path, there)
    control = tree / "DEBIAN"
    control.mkdir(mode=0o755)
    for name in run("dpkg-query", "--control-list", "dpsr").split():
        text = run("dpkg-query", "--control-show", "dpsr", name)
        (control / name).write_text(text)
        if name not in {"control", "md5sums", "conffiles", "triggers"}:
            (control / name).chmod(0o755)
    package = folder / "dpsr.deb"
    run("dpkg-deb", "--root-owner-group", "--build", str(tree), str(package))
    return package
