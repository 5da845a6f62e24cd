# SPDX-License-Identifier: GPL-3.0-or-later
"""Image files: new disks, overlays, firmware variables."""

import json
from pathlib import Path
from typing import Literal

from core.errors import CommandFailed, ImageUnusable, ProgramMissing
from core.run import run
from images.vm import OVMF_CODE, OVMF_VARS, SECURE_CODE, SECURE_VARS

ImageFormat = Literal["qcow2", "raw"]


def image_format(path: Path) -> ImageFormat:
    """By the file's own magic number. Raises ImageUnusable for what is neither."""
    try:
        with open(path, "rb") as stream:
            head = stream.read(4)
    except OSError as error:
        raise ImageUnusable(f"{path} cannot be read: {error.strerror}.") from None
    if head == b"QFI\xfb":
        return "qcow2"
    return "raw"


def virtual_size(path: Path) -> int:
    """Size of the disk that an image holds, in bytes. Raises ImageUnusable."""
    try:
        said = run(
            "qemu-img",
            "info",
            "--force-share",
            "--output=json",
            "-f",
            image_format(path),
            str(path),
        )
    except CommandFailed as failure:
        raise ImageUnusable(f"{path} is no disk image: {failure.stderr.strip()}") from None
    return int(json.loads(said)["virtual-size"])


def new_disk(path: Path, size: int, kind: ImageFormat = "qcow2") -> Path:
    """An empty disk of `size` bytes."""
    run("qemu-img", "create", "-q", "-f", kind, str(path), str(size))
    return path


def new_overlay(path: Path, backing: Path) -> Path:
    """A qcow2 file that takes the writes meant for `backing`."""
    backing = backing.resolve()
    run(
        "qemu-img", "create", "-q", "-f", "qcow2",
        "-F", image_format(backing), "-b", str(backing), str(path),
    )  # fmt: skip
    return path


def new_vars(path: Path, like: Path | None = None, *, secure: bool = False) -> Path:
    """Firmware variables (qcow2) of one machine: empty, or a copy of another machine's.

    `secure`: empty but for the keys of Secure Boot. Raises ProgramMissing when OVMF is not
    installed.
    """
    if not OVMF_CODE.exists() or (secure and not SECURE_CODE.exists()):
        raise ProgramMissing("OVMF (UEFI firmware for QEMU)", "ovmf")
    source = like or (SECURE_VARS if secure else OVMF_VARS)
    run(
        "qemu-img", "convert", "-q",
        "-f", image_format(source), "-O", "qcow2", str(source), str(path),
    )  # fmt: skip
    return path


def convert(source: Path, target: Path, kind: ImageFormat = "qcow2") -> Path:
    """Copy an image into another format; empty space stays empty."""
    run(
        "qemu-img", "convert", "-q",
        "-f", image_format(source), "-O", kind, str(source), str(target), timeout=600,
    )  # fmt: skip
    return target
