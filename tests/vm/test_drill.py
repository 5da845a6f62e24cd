# SPDX-License-Identifier: GPL-3.0-or-later
"""`dpsr drill` on systems that start and on systems that were broken, each in its own way."""

import hashlib
import json
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from core.errors import ImageUnusable
from core.run import PIPE, start
from images import disks, sample
from images.drill import Order, Outcome, drill
from images.recipe import PRIMARY_SERIAL, Recipe
from images.signs import Verdict
from images.vm import MIB
from tests.support.push import ROOT
from tests.support.scenario import system

pytestmark = pytest.mark.full

BIOS_13 = Recipe(13, "bios")
BIOS_12 = Recipe(12, "bios")
UEFI_12 = Recipe(12, "uefi")


def broken(recipe: Recipe, script: str, folder: Path) -> Path:
    """The disk of a system after `script` was run in it and it was shut down."""
    with sample.booted(system(recipe)) as guest:
        guest.sh(script)
        guest.poweroff()
        return guest.file_of(PRIMARY_SERIAL).rename(folder / "broken.qcow2")


def sector(folder: Path, code: bytes) -> Path:
    """A disk whose boot sector is `code`."""
    path = folder / "sector.raw"
    path.write_bytes(code.ljust(510, b"\0") + b"\x55\xaa" + bytes(MIB))
    return path


def dpsr(*words: str) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of the command, as this user."""
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from dpsr.main import main; main()"
    child = start(sys.executable, "-c", code, *words, stdout=PIPE, stderr=PIPE)
    out, err = child.communicate(timeout=900)
    return child.returncode, out.decode(), err.decode()


def said_by(outcome: Outcome) -> str:
    return f"{outcome.verdict}: {outcome.says}\n{outcome.console}"


def test_a_good_system_boots_and_its_image_stays_as_it_is(folder: Path) -> None:
    built = system(BIOS_13)
    before = hashlib.sha256(built.disk.read_bytes()).digest()
    image = built.disk
    junit, picture, check = folder / "drill.xml", folder / "drill.png", folder / "check"
    check.write_text("#!/bin/sh\ntest -s /etc/fstab && [ $(id -u) = 0 ]\n")
    status, out, _ = dpsr(
        "drill", str(image), "--json", "--junit", str(junit), "--screenshot", str(picture),
        "--check", str(check),
    )  # fmt: skip
    answer = json.loads(out)
    assert status == 0
    assert answer["passed"] is True
    assert answer["verdict"] == "booted"
    assert answer["proof"] == "credential"
    assert answer["firmware"] == "bios"
    assert hashlib.sha256(image.read_bytes()).digest() == before
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert ET.parse(junit).getroot()[0].get("failures") == "0"


def test_debian_12_by_uefi_reports_too() -> None:
    built = system(UEFI_12)
    outcome = drill(Order(built.disk, vars=built.vars))
    assert outcome.verdict is Verdict.BOOTED, said_by(outcome)
    assert outcome.report is not None
    assert outcome.firmware == "uefi"


def test_a_system_without_dpsr_counts_by_its_login_prompt() -> None:
    outcome = drill(Order(sample.build(BIOS_12).disk))
    assert outcome.verdict is Verdict.BOOTED, said_by(outcome)
    assert outcome.report is None


def test_a_failed_unit_is_named_on_debian_12(folder: Path) -> None:
    unit = "[Service]\nType=oneshot\nExecStart=/bin/false\n[Install]\nWantedBy=multi-user.target\n"
    script = f"printf '{unit}' > /etc/systemd/system/doomed.service; systemctl enable doomed"
    outcome = drill(Order(broken(BIOS_12, script, folder)))
    assert outcome.verdict is Verdict.DEGRADED, said_by(outcome)
    assert outcome.report is not None
    assert outcome.report.failed == ("doomed.service",)


def test_the_users_own_check_can_fail_a_drill(folder: Path) -> None:
    script = """
        mkdir -p /etc/dpsr/drill.d
        printf '#!/bin/sh\\nexit 0\\n' > /etc/dpsr/drill.d/10-fine
        printf '#!/bin/sh\\nexit 1\\n' > /etc/dpsr/drill.d/20-database
        chmod 755 /etc/dpsr/drill.d/*
    """
    outcome = drill(Order(broken(BIOS_13, script, folder)))
    assert outcome.verdict is Verdict.CHECK_FAILED, said_by(outcome)
    assert "20-database" in outcome.says


def test_a_check_that_comes_with_the_drill_can_fail_it() -> None:
    check = b"#!/bin/sh\necho looking\necho no orders since yesterday >&2\nexit 3\n"
    outcome = drill(Order(system(BIOS_13).disk, check=check))
    assert outcome.verdict is Verdict.CHECK_FAILED, said_by(outcome)
    assert outcome.says == "the check failed: no orders since yesterday"


@pytest.mark.parametrize(
    ("recipe", "script"),
    [
        (BIOS_13, "dd if=/dev/zero of=/dev/vda bs=512 count=1 conv=fsync"),
        (UEFI_12, "rm -r /boot/efi/EFI"),
    ],
    ids=["bios", "uefi"],
)
def test_a_wiped_loader(folder: Path, recipe: Recipe, script: str) -> None:
    outcome = drill(Order(broken(recipe, script, folder), recipe.firmware))
    assert outcome.verdict is Verdict.NO_LOADER, said_by(outcome)


def test_a_broken_fstab_ends_in_emergency_mode(folder: Path) -> None:
    line = "UUID=00000000-dead-beef-0000-000000000000 /data ext4 x-systemd.device-timeout=3s 0 2"
    outcome = drill(Order(broken(BIOS_13, f"echo '{line}' >> /etc/fstab", folder)))
    assert outcome.verdict is Verdict.EMERGENCY, said_by(outcome)


def test_a_missing_root_ends_in_the_initramfs(folder: Path) -> None:
    nothing = "UUID=00000000-dead-beef-0000-000000000000"
    script = f"sed -i 's/root=UUID=[^ ]*/root={nothing}/' /boot/grub/grub.cfg"
    outcome = drill(Order(broken(BIOS_13, script, folder)))
    assert outcome.verdict is Verdict.EMERGENCY, said_by(outcome)


def test_a_panic(folder: Path) -> None:
    script = r"sed -i 's/^\(\s*linux\s.*\)/\1 init=\/bin\/true/' /boot/grub/grub.cfg"
    outcome = drill(Order(broken(BIOS_13, script, folder)))
    assert outcome.verdict is Verdict.PANIC, said_by(outcome)


def test_a_missing_kernel(folder: Path) -> None:
    outcome = drill(Order(broken(BIOS_13, "rm /boot/vmlinuz-*", folder)))
    assert outcome.verdict is Verdict.NO_CONFIG, said_by(outcome)


def test_a_missing_grub_cfg(folder: Path) -> None:
    outcome = drill(Order(broken(BIOS_13, "rm /boot/grub/grub.cfg", folder)))
    assert outcome.verdict is Verdict.NO_CONFIG, said_by(outcome)


def test_missing_grub_modules(folder: Path) -> None:
    outcome = drill(Order(broken(BIOS_13, "rm -r /boot/grub/i386-pc", folder)))
    assert outcome.verdict is Verdict.NO_CONFIG, said_by(outcome)


@pytest.mark.parametrize("firmware", ["uefi", "bios"])
def test_an_empty_disk_has_no_loader(folder: Path, firmware: str) -> None:
    empty = disks.new_disk(folder / "empty.raw", 64 * MIB, "raw")
    picture = folder / "shot.png"
    outcome = drill(Order(empty, firmware, screenshot=picture))  # type: ignore[arg-type]
    assert outcome.verdict is Verdict.NO_LOADER, said_by(outcome)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_silence(folder: Path) -> None:
    stop = sector(folder, b"\xfa\xeb\xfe")  # cli; jmp $
    outcome = drill(Order(stop, "bios", timeout=4))
    assert outcome.verdict is Verdict.SILENT, said_by(outcome)


def test_a_machine_that_resets_itself_again_and_again(folder: Path) -> None:
    again = sector(folder, b"\xb0\xfe\xe6\x64\xeb\xfe")  # mov al, 0xfe; out 0x64, al; jmp $
    outcome = drill(Order(again, "bios", timeout=120))
    assert outcome.verdict is Verdict.ENDED, said_by(outcome)


def test_a_machine_that_switches_itself_off(folder: Path) -> None:
    script = r"sed -i 's/^\(\s*linux\s.*\)/\1 systemd.unit=poweroff.target/' /boot/grub/grub.cfg"
    outcome = drill(Order(broken(BIOS_13, script, folder)))
    assert outcome.verdict is Verdict.ENDED, said_by(outcome)


def test_the_command_says_in_one_sentence_what_failed(folder: Path) -> None:
    empty = disks.new_disk(folder / "empty.raw", 64 * MIB, "raw")
    status, out, err = dpsr("drill", str(empty), "--junit", str(folder / "j.xml"))
    assert status == 82
    assert out == ""
    assert "empty.raw did not pass: " in err
    assert ET.parse(folder / "j.xml").getroot()[0].get("failures") == "1"


def test_no_image_is_refused(folder: Path) -> None:
    with pytest.raises(ImageUnusable):
        drill(Order(folder / "nothing.raw"))
    (folder / "torn.qcow2").write_bytes(b"QFI\xfb" + bytes(100))
    with pytest.raises(ImageUnusable):
        drill(Order(folder / "torn.qcow2"))
