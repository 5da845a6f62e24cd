# SPDX-License-Identifier: GPL-3.0-or-later
"""Which programs a machine has for Secure Boot, and how they come onto the control partition."""

from pathlib import Path

import pytest

from core.errors import LoaderFailed
from core.files import write_durably
from grub import signed
from tests.support.uefi_program import program

GRUB = program(b"(,gpt2)/EFI/debian\0")
PACKAGES = {
    "usr/lib/shim/shimx64.efi.signed": program(b"shim 16"),
    "usr/lib/shim/mmx64.efi.signed": program(b"keys 16"),
    "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed": GRUB,
}
ESP = {
    "shimx64.efi": program(b"shim 15"),
    "mmx64.efi": program(b"keys 15"),
    "grubx64.efi": program(b"/EFI/debian\0 of before"),
}


def lay(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def boot(control: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (control / "EFI/BOOT").iterdir()}


def test_packages_come_before_the_esp(tmp_path: Path) -> None:
    root, esp = tmp_path / "root", tmp_path / "esp"
    lay(esp / "EFI/debian", ESP)
    found = signed.find(root, esp)
    assert found is not None
    assert dict(found.files)["EFI/BOOT/BOOTX64.EFI"] == ESP["shimx64.efi"]
    lay(root, PACKAGES)
    found = signed.find(root, esp)
    assert found is not None
    assert dict(found.files)["EFI/BOOT/BOOTX64.EFI"] == PACKAGES["usr/lib/shim/shimx64.efi.signed"]
    assert found.origin == "Debian's packages"


def test_half_of_them_is_nothing(tmp_path: Path) -> None:
    root, esp = tmp_path / "root", tmp_path / "esp"
    assert signed.find(root, esp) is None
    lay(root, dict(list(PACKAGES.items())[:2]))
    lay(esp / "EFI/debian", {"grubx64.efi": ESP["grubx64.efi"]})
    assert signed.find(root, esp) is None


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("shimx64.efi", program(b"shim", signature=b""), "BOOTX64.EFI of .* carries no signature"),
        ("shimx64.efi", program(b"shim", machine=0xAA64), "no UEFI loader"),
        ("mmx64.efi", b"MZ", "mmx64.efi of .* is no UEFI loader"),
        ("grubx64.efi", program(b"/EFI/ubuntu\0"), "is not Debian's"),
    ],
)
def test_what_would_not_start_is_refused(tmp_path: Path, name: str, data: bytes, said: str) -> None:
    lay(tmp_path / "EFI/debian", ESP | {name: data})
    with pytest.raises(LoaderFailed, match=said):
        signed.find(tmp_path, tmp_path)


def test_grub_is_there_before_what_starts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    control = lay(tmp_path / "control", {"EFI/BOOT/BOOTX64.EFI": b"unsigned"})
    found = signed.find(lay(tmp_path / "root", PACKAGES), tmp_path)
    assert found is not None
    seen: list[list[str]] = []

    def on_write(path: Path, data: bytes) -> None:
        write_durably(path, data)
        seen.append([name for name, data in boot(control).items() if data != b"unsigned"])

    monkeypatch.setattr(signed, "write_durably", on_write)
    assert set(signed.put(control, found)) == set(signed.names())
    assert [sorted(names) for names in seen] == [
        ["grubx64.efi"],
        ["grubx64.efi", "mmx64.efi"],
        ["BOOTX64.EFI", "grubx64.efi", "mmx64.efi"],
    ]
    assert found.differing(control) == ()
    seen.clear()
    assert signed.put(control, found) == ()
    assert seen == []


def test_only_what_differs_is_written(tmp_path: Path) -> None:
    found = signed.find(lay(tmp_path / "root", PACKAGES), tmp_path)
    assert found is not None
    control = tmp_path / "control"
    signed.put(control, found)
    (control / "EFI/BOOT/mmx64.efi").write_bytes(b"stale")
    before = (control / "EFI/BOOT/BOOTX64.EFI").stat().st_ino
    assert signed.put(control, found) == ("EFI/BOOT/mmx64.efi",)
    assert (control / "EFI/BOOT/BOOTX64.EFI").stat().st_ino == before
    assert sorted(boot(control)) == ["BOOTX64.EFI", "grubx64.efi", "mmx64.efi"]


def test_no_fallback_beside_shim(tmp_path: Path) -> None:
    """It would write boot entries into the firmware, and not start GRUB."""
    control = lay(tmp_path / "control", {"EFI/BOOT/fbx64.efi": b"fallback"})
    found = signed.find(lay(tmp_path / "root", PACKAGES), tmp_path)
    assert found is not None
    signed.put(control, found)
    assert "fbx64.efi" not in boot(control)


def test_a_signature_is_found_where_the_program_says() -> None:
    assert signed.signature(program(b"content", b"signed by somebody")) == b"signed by somebody"
    for unsigned in (b"", b"MZ", program(b"content", b"")):
        assert signed.signature(unsigned) == b""
