# SPDX-License-Identifier: GPL-3.0-or-later
"""What the program uses is what its package and its environment bring."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from core.run import PACKAGES
from core.version import VERSION

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("core", "grub", "images", "builder", "recovery", "dpsr")
ESSENTIAL = {"util-linux"}
ALWAYS = {"sh", "/bin/sh", "chmod", "cp", "env", "sync", "dpkg-deb", "dpkg-query"}
ALWAYS |= {"apt-config", "apt-get"}
DOORS = {"run", "run_bytes", "start", "need", "have"}
DEBIAN_NAMES = {"parted": "python3-parted", "_ped": "python3-parted"}
PYPI_NAMES = {"parted": "pyparted", "_ped": "pyparted"}


def field(name: str) -> set[str]:
    """The packages that debian/control names in a field, versions and alternatives aside."""
    control = (ROOT / "packaging/debian/control").read_text()
    found = re.search(rf"^{name}:(.*\n(?: .*\n)*)", control, re.MULTILINE)
    assert found, name
    return {
        part.strip().partition(" ")[0] for part in re.split(r"[,|]", found[1]) if part.strip()
    } - {"${misc:Depends}", "${python3:Depends}"}


def calls() -> Iterator[ast.Call]:
    """Each call in the rooms."""
    for path in (path for room in ROOMS for path in (ROOT / room).rglob("*.py")):
        tree = ast.parse(path.read_bytes())
        yield from (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def programs() -> set[str]:
    """What the rooms ask core/run.py for by name."""
    return {
        argument.value
        for call in calls()
        if ast.unparse(call.func).rpartition(".")[2] in DOORS
        for argument in call.args[: None if ast.unparse(call.func).endswith("need") else 1]
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
    }


def third_party() -> set[str]:
    """Top-level names that the rooms import and Python itself does not bring."""
    names: set[str] = set()
    for path in (path for room in ROOMS for path in (ROOT / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Import):
                names.update(name.name.partition(".")[0] for name in node.names)
            elif isinstance(node, ast.ImportFrom):
                names.add(str(node.module).partition(".")[0])
    return names - set(ROOMS) - set(sys.stdlib_module_names)


def test_the_package_brings_every_library() -> None:
    wanted = {DEBIAN_NAMES.get(name, f"python3-{name}") for name in third_party()}
    assert wanted <= field("Depends") | field("Recommends")


def test_the_environment_brings_every_library() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    listed = {re.split(r"[<>=~]", line)[0] for line in project["dependencies"]}
    assert {PYPI_NAMES.get(name, name) for name in third_party()} <= listed


def test_the_package_brings_every_program() -> None:
    assert programs() - ALWAYS <= set(PACKAGES), "which package brings it? say so in core/run.py"
    assert {"grub-install", "sfdisk"} <= programs(), "the test sees no calls"
    assert set(PACKAGES.values()) <= field("Depends") | field("Recommends") | ESSENTIAL


def test_each_system_package_says_why() -> None:
    lines = (ROOT / "packaging/system-packages.txt").read_text().splitlines()
    named = [line for line in lines if line and not line.startswith("#")]
    assert named
    assert not [line for line in named if not re.fullmatch(r"[a-z0-9][a-z0-9.+-]* +# \S.*", line)]
    names = [line.split()[0] for line in named]
    assert len(names) == len(set(names))


def test_the_changelog_begins_with_this_version() -> None:
    versions = re.findall(r"^## (\S+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert versions[0] == VERSION
