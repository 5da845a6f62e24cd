# SPDX-License-Identifier: GPL-3.0-or-later
"""The rescue system of a DPSR disk's raw image: taken out, or started in another way."""

from pathlib import Path

from core.run import run, run_bytes
from images.vm import DirectKernel
from tests.support import disk_image, oracle_disk

_MENUS = ("grub/grub.cfg", "EFI/debian/grub.cfg")


def direct(image: Path, folder: Path) -> DirectKernel:
    """Its kernel and initrd as files in `folder`, to be started with no boot loader."""
    table = disk_image.table(image)
    name = oracle_disk.read_state(image, table)["rescue"]
    kernel, initrd = folder / "rescue-vmlinuz", folder / "rescue-initrd"
    for path in (kernel, initrd):
        source = f"dpsr/r-{name}/{'vmlinuz' if path is kernel else 'initrd.img'}"
        path.write_bytes(run_bytes("mtype", "-i", _control(image), f"::{source}", timeout=120))
    line = (
        f"boot=dpsr root=dpsr dpsr.disk={table.guid} noresume cryptopts= quiet loglevel=4 "
        "console=tty0 console=ttyS0,115200"
    )
    return DirectKernel(kernel, initrd, line)


def say(image: Path, words: str) -> None:
    """Add `words` to the command line with which GRUB starts it."""
    for name in _MENUS:
        text = run("mtype", "-i", _control(image), f"::{name}")
        assert "boot=dpsr" in text
        edited = text.replace("boot=dpsr", f"boot=dpsr {words}").encode()
        run("mcopy", "-o", "-i", _control(image), "-", f"::{name}", given=edited)


def _control(image: Path) -> str:
    return f"{image}@@{disk_image.table(image).named('dpsr-control').start}"
