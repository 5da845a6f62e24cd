# SPDX-License-Identifier: GPL-3.0-or-later
"""The rescue system: the machine's own kernel, and an initrd that has this program in it.

The initrd is made by the machine's own initramfs-tools, with a configuration of its own: what
/etc says of resume, encrypted disks and drivers concerns the primary. What is made is kept in
/var/cache/dpsr, since it takes longer than a backup, until the kernel or this program changes.
"""

import hashlib
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from core.errors import CommandFailed, ProgramMissing, ProgramTimeout, RescueFailed
from core.files import copy_durably
from core.run import have, run

CACHE: Final = Path("/var/cache/dpsr")
KERNEL: Final = "vmlinuz"
INITRD: Final = "initrd.img"
ROOMS: Final = ("core", "grub", "builder", "recovery")
"""What of this program goes into the initrd."""

_HERE: Final = Path(__file__).resolve().parent.parent
_SCRIPTS: Final = Path(__file__).with_name("scripts")
_BOOT: Final = Path("/boot")
_TIMEOUT: Final = 1800.0
_CONF: Final = """\
MODULES=list
BUSYBOX=auto
KEYMAP=n
COMPRESS={compress}
RUNSIZE=10%
RESUME=none
FSTYPE=auto
"""


@dataclass(frozen=True, slots=True)
class Parts:
    """A kernel and an initrd on the primary, and one name for both: it changes with the content."""

    name: str
    kernel: Path
    initrd: Path

    @property
    def size(self) -> int:
        """Bytes of both files."""
        return self.kernel.stat().st_size + self.initrd.stat().st_size


def name_of(kernel: Path) -> str:
    """What the parts made from `kernel` are called: 16 hex digits of all that goes into them."""
    total = hashlib.sha256(sys.version.encode())
    total.update(kernel.name.encode())
    with open(kernel, "rb") as stream:
        total.update(hashlib.file_digest(stream, "sha256").digest())
    for path in _sources():
        total.update(str(path.relative_to(_HERE)).encode() + b"\0" + path.read_bytes())
    return total.hexdigest()[:16]


def own_kernel() -> Path:
    """The kernel that runs; the newest one when it is not installed any more.

    Raises RescueFailed.
    """
    running = _BOOT / f"vmlinuz-{os.uname().release}"
    others = sorted(_BOOT.glob("vmlinuz-*"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in (running, *others):
        if path.is_file() and _modules(path).is_dir():
            return path
    raise RescueFailed(f"No kernel of this machine was found in {_BOOT}.")


def parts() -> Parts:
    """The rescue system of this machine, made now unless the cache has it. Raises RescueFailed."""
    kernel = own_kernel()
    name = name_of(kernel)
    kept = CACHE / f"rescue-{name}.img"
    if not kept.is_file():
        CACHE.mkdir(mode=0o700, parents=True, exist_ok=True)
        for old in CACHE.glob("rescue-*.img"):
            old.unlink()
        _make(kernel, kept)
    return Parts(name, kernel, kept)


def _make(kernel: Path, kept: Path) -> None:
    """Make an initrd for `kernel`, and call it `kept` once it is whole."""
    with tempfile.TemporaryDirectory(prefix="dpsr-rescue-", dir="/var/tmp") as folder:
        made = Path(folder, INITRD)
        configure(Path(folder, "conf"))
        version = kernel.name.removeprefix("vmlinuz-")
        try:
            run("mkinitramfs", "-d", f"{folder}/conf", "-o", str(made), version, timeout=_TIMEOUT)
        except (CommandFailed, ProgramMissing, ProgramTimeout) as reason:
            raise RescueFailed(f"The rescue system could not be made: {reason}") from None
        copy_durably(made, kept, 0o600)


def configure(conf: Path) -> None:
    """Write a configuration for mkinitramfs into the folder `conf`."""
    for name in ("hooks", "scripts", "conf.d"):
        (conf / name).mkdir(parents=True)
    compress = "zstd" if have("zstd") else "gzip"
    (conf / "initramfs.conf").write_text(_CONF.format(compress=compress), "utf-8")
    (conf / "modules").write_text("", "utf-8")
    hook = (_SCRIPTS / "rescue-hook.sh").read_text("utf-8")
    boot = (_SCRIPTS / "rescue-boot.sh").read_text("utf-8")
    rooms = " ".join(str(_HERE / room) for room in ROOMS)
    for name, text in (
        ("hooks/dpsr", hook.replace("@ROOMS@", rooms)),
        ("scripts/dpsr", boot.replace("@HOME@", str(_HERE))),
    ):
        (conf / name).write_text(text, "utf-8")
        (conf / name).chmod(0o755)


def copy_parts(found: Parts, folder: Path) -> None:
    """Put both files into `folder`, synced; they have their names once they are whole."""
    for source, name in ((found.kernel, KERNEL), (found.initrd, INITRD)):
        copy_durably(source, folder / name)


def _modules(kernel: Path) -> Path:
    return Path("/lib/modules", kernel.name.removeprefix("vmlinuz-"))


def _sources() -> list[Path]:
    rooms = (path for room in ROOMS for path in (_HERE / room).rglob("*.py"))
    return sorted((*rooms, Path(__file__), *_SCRIPTS.glob("rescue-*.sh")))


if __name__ == "__main__":
    sys.stdout.write(f"{parts().initrd}\n")
