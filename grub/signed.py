# SPDX-License-Identifier: GPL-3.0-or-later
"""shim and Debian's signed GRUB on the control partition: what starts under Secure Boot.

Firmware starts shim, shim starts the `grubx64.efi` beside it, and that one reads
`/EFI/debian/grub.cfg` of the partition that it came from. They start without Secure Boot, too.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from core.errors import LoaderFailed
from core.files import sync_folder, write_durably
from core.points import reach
from grub.install import REMOVABLE, check_image

ESP: Final = Path("/boot/efi")
PREFIX: Final = b"/EFI/debian\0"
"""Where Debian's signed GRUB looks for its script: its signature covers that."""

_BOOT: Final = "EFI/BOOT"
_FALLBACK: Final = "fbx64.efi"
"""Beside shim it would write boot entries instead of starting GRUB."""
_FILES: Final = (
    # In the order of writing: an old shim starts a new GRUB, a new one may have revoked the old.
    (f"{_BOOT}/grubx64.efi", "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed", "grubx64.efi"),
    (f"{_BOOT}/mmx64.efi", "usr/lib/shim/mmx64.efi.signed", "mmx64.efi"),
    (REMOVABLE, "usr/lib/shim/shimx64.efi.signed", "shimx64.efi"),
)
"""On the control partition, in Debian's packages, in `EFI/debian` of an ESP."""
_SIGNATURES: Final = 4
"""Index of the table of signatures in a UEFI program's directory."""


@dataclass(frozen=True, slots=True)
class Signed:
    """The three programs, by their path on the control partition, in the order of writing."""

    files: tuple[tuple[str, bytes], ...]
    origin: str
    """Where they are from, in words."""

    def differing(self, control: Path) -> tuple[tuple[str, bytes], ...]:
        """Those that the mounted control partition does not hold as they are here."""
        return tuple((name, data) for name, data in self.files if _read(control / name) != data)


def names() -> tuple[str, ...]:
    """Their paths on the control partition."""
    return tuple(name for name, _, _ in _FILES)


def on_esp() -> tuple[tuple[str, str], ...]:
    """Their names in `EFI/debian` of an ESP, and their paths on a partition that starts them."""
    return tuple((there, name) for name, _, there in _FILES)


def find(root: Path = Path("/"), esp: Path = ESP) -> Signed | None:
    """What this machine has to start under Secure Boot; None when it has no such thing.

    Of Debian's packages shim-signed and grub-efi-amd64-signed, which are newest, else from the ESP.
    Raises LoaderFailed: it has, but that would not start.
    """
    for origin, place in (
        ("Debian's packages", lambda package, _: root / package),
        (str(esp), lambda _, name: esp / "EFI/debian" / name),
    ):
        if (found := _from(origin, place)) is not None:
            check(found)
            return found
    return None


def check(found: Signed) -> None:
    """Whether all three are signed programs, and GRUB's script is where we write it.

    Raises LoaderFailed.
    """
    for name, data in found.files:
        check_image(data, f"{Path(name).name} of {found.origin}")
        if not signature(data):
            raise LoaderFailed(f"{Path(name).name} of {found.origin} carries no signature.")
    name, grub = found.files[0]
    if PREFIX not in grub:
        raise LoaderFailed(
            f"{Path(name).name} of {found.origin} is not Debian's: it does not look for its menu "
            "in /EFI/debian."
        )


def put(control: Path, found: Signed) -> tuple[str, ...]:
    """Bring them onto the mounted control partition, one by one; returns which were replaced.

    At each instant, and after a power cut at any, the disk starts: each is old or new, whole, and
    GRUB is there before what starts it. Raises OSError.
    """
    boot = control / _BOOT
    boot.mkdir(parents=True, exist_ok=True)
    wanted = found.differing(control)
    for name, data in wanted:
        if name == REMOVABLE:
            without_fallback(boot)
        write_durably(control / name, data)
        reach("loader-put")
    without_fallback(boot)
    return tuple(name for name, _ in wanted)


def signature(image: bytes) -> bytes:
    """The table of signatures of a UEFI program for this kind of machine; empty: it has none."""
    try:
        optional = struct.unpack_from("<I", image, 0x3C)[0] + 24
        if struct.unpack_from("<H", image, optional)[0] != 0x20B:  # PE32+
            return b""
        start, size = struct.unpack_from("<II", image, optional + 112 + 8 * _SIGNATURES)
    except struct.error:
        return b""
    return image[start : start + size] if start else b""


def _from(origin: str, place: Callable[[str, str], Path]) -> Signed | None:
    files = [(name, _read(place(package, there))) for name, package, there in _FILES]
    whole = tuple((name, data) for name, data in files if data is not None)
    return Signed(whole, origin) if len(whole) == len(files) else None


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def without_fallback(boot: Path) -> None:
    """Take away what shim would start instead of GRUB, in its folder. Raises OSError."""
    if (boot / _FALLBACK).exists():
        (boot / _FALLBACK).unlink()
        sync_folder(boot)
