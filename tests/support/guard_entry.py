# SPDX-License-Identifier: GPL-3.0-or-later
"""What /etc/grub.d/11_dpsr_guard adds to a grub.cfg, run as grub-mkconfig runs it."""

from pathlib import Path
from typing import Final

from core.run import run

SCRIPT: Final = Path(__file__).parents[2] / "packaging/grub.d/11_dpsr_guard"


def guard_entry(folder: Path, so_far: str, *, on: bool = True) -> str:
    """`so_far`: what the scripts before it have written to the file that it writes to, too."""
    config = folder / "grub.cfg.new"
    config.write_text(so_far)
    etc = folder / "etc"
    etc.mkdir(exist_ok=True)
    (etc / "guard.cfg").unlink(missing_ok=True)
    if on:
        (etc / "guard.cfg").touch()
    script = folder / "script"
    text = SCRIPT.read_text().replace("/etc/dpsr/", f"{etc}/").replace("/usr/sbin/dpsr", "/bin/sh")
    script.write_text(text)
    run("sh", "-c", f"sh {script} >> {config}")
    return config.read_text().removeprefix(so_far)
