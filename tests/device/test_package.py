# SPDX-License-Identifier: GPL-3.0-or-later
"""The Debian package: the same content makes the same bits, and all of the program is in it."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from core.run import run

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("core", "grub", "images", "builder", "recovery", "dpsr")
NEEDED = (*ROOMS, "packaging", "CHANGELOG.md")
EPOCH = "1750000000"


def built(tree: Path, *, time: int, mask: int) -> Path:
    """The package of a copy of this clone whose files have another age and mode."""
    before = os.umask(mask)
    try:
        for name in NEEDED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                tree.mkdir(exist_ok=True)
                shutil.copyfile(source, tree / name)
        for path in tree.rglob("*"):
            os.utime(path, (time, time))
        said = run("env", f"SOURCE_DATE_EPOCH={EPOCH}",
                   sys.executable, str(tree / "packaging/build.py"), timeout=300)  # fmt: skip
    finally:
        os.umask(before)
    return Path(said.strip())


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("one") / "clone", time=1_700_000_000, mask=0o022)


def listed(package: Path) -> dict[str, str]:
    """Names in the package and their modes, as `tar -tv` prints them."""
    lines = run("dpkg-deb", "--contents", str(package)).splitlines()
    return {line.split()[5].removeprefix("."): line.split()[0] for line in lines}


def test_the_same_content_makes_the_same_bits(package: Path, tmp_path: Path) -> None:
    other = built(tmp_path / "another place", time=1_760_000_000, mask=0o077)
    assert other.name == package.name
    assert other.read_bytes() == package.read_bytes()


def test_all_of_the_program_is_in_it_and_nothing_else(package: Path) -> None:
    inside = {name for name in listed(package) if name.endswith(".py")}
    clone = package.parents[1]
    ours = {
        f"/usr/lib/dpsr/{path.relative_to(clone)}"
        for room in ROOMS
        for path in (clone / room).rglob("*.py")
    }
    assert inside == ours


def test_who_may_read_and_run_what(package: Path) -> None:
    modes = {name: mode for name, mode in listed(package).items() if mode[0] != "l"}
    assert modes["/etc/dpsr/"] == "drwx------"
    assert modes["/usr/sbin/dpsr"] == "-rwxr-xr-x"
    assert modes["/usr/lib/dpsr/drill-signal"] == "-rwxr-xr-x"
    assert modes["/usr/lib/udev/rules.d/59-dpsr.rules"] == "-rw-r--r--"
    assert not [name for name, mode in modes.items() if mode[5] == "w" or mode[8] == "w"]


def test_the_drill_is_reported_by_every_way_to_start(package: Path) -> None:
    folder = "/usr/lib/systemd/system"
    unit = "dpsr-drill-signal.service"
    names = set(listed(package))
    assert f"{folder}/{unit}" in names
    for target in ("multi-user", "rescue", "emergency"):
        assert f"{folder}/{target}.target.wants/{unit}" in names


def test_the_man_page_lists_the_exit_codes(package: Path, tmp_path: Path) -> None:
    run("dpkg-deb", "--extract", str(package), str(tmp_path))
    page = run("zcat", str(tmp_path / "usr/share/man/man8/dpsr.8.gz"))
    assert ".B 11\nThe command needs root.\n" in page
    assert ".B 89\nThe guest ended by itself.\n" in page
    assert "codes" not in page.partition(".SH EXIT STATUS")[2].partition(".SH FILES")[0]
