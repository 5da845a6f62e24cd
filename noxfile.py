# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be done with a clone: `./run NAME`, or `nox -s NAME` in an environment of your own.

The sessions use the environment that nox itself runs in; `./run` makes one in .venv.
"""

import argparse
import os
import sys
from pathlib import Path

import nox

nox.needs_version = ">=2024.4.15"
nox.options.default_venv_backend = "none"
nox.options.sessions = ["tests"]
nox.options.error_on_missing_interpreters = True

ROOT = Path(__file__).parent
DIST = ROOT / "dist"
TWO_GUESTS = ("-n", "2", "--dist", "loadfile")
"""Without KVM a guest keeps a core busy; what shares a guest stands in one file."""
LEFT_OUT = {"small": "not full and not matrix and not soak", "full": "not matrix and not soak"}


@nox.session
def tests(session: nox.Session) -> None:
    """All tests: --size small (the default, under an hour on two cores without KVM) or full."""
    size, rest = _size(session)
    for name in ("lint", "deb"):
        session.notify(name, [])
    for name in ("unit", "device", "vm", "power"):
        session.notify(name, ["--size", size, *rest])


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff and mypy --strict over everything, tests included."""
    _python(session, "ruff", "check", *session.posargs)
    _python(session, "mypy", ".")


@nox.session
def unit(session: nox.Session) -> None:
    """Tests that start no program and need no root: seconds."""
    size, rest = _size(session)
    _pytest(session, "tests/unit", LEFT_OUT[size], *rest)


@nox.session
def device(session: nox.Session) -> None:
    """Tests on loop devices and image files with real file systems; needs root."""
    size, rest = _size(session)
    _pytest(session, "tests/device", LEFT_OUT[size], *rest, root=True)


@nox.session
def vm(session: nox.Session) -> None:
    """Tests in QEMU guests: what users live through.

    One after the other: with two at once on two cores a freeze can outlast its limit.
    """
    size, rest = _size(session)
    _pytest(session, "tests/vm", LEFT_OUT[size], *rest, needs_deb=True)


@nox.session
def power(session: nox.Session) -> None:
    """Power cuts at every named point."""
    size, rest = _size(session)
    _pytest(session, "tests/power", LEFT_OUT[size], *rest, needs_deb=True)


@nox.session
def matrix(session: nox.Session) -> None:
    """The full matrix of firmware, bus, partition table and layout: hours."""
    _pytest(session, "tests/vm", "matrix", *TWO_GUESTS, *session.posargs, needs_deb=True)


@nox.session
def soak(session: nox.Session) -> None:
    """Random faults for as long as it is given: hours."""
    _pytest(session, "tests/device", "soak", *session.posargs, root=True)
    _pytest(session, "tests/power", "soak", *session.posargs, needs_deb=True)


@nox.session
def deb(session: nox.Session) -> None:
    """Build dist/dpsr_VERSION_all.deb and check it with lintian."""
    package = _build_deb(session, "--again")
    session.run(
        "lintian", "--fail-on", "error,warning", "--tag-display-limit", "0", str(package),
        external=True, env={"LC_ALL": "C.UTF-8"},
    )  # fmt: skip
    print(package.relative_to(ROOT))


@nox.session
def demo(session: nox.Session) -> None:
    """The whole story on virtual disks: a system runs, is backed up, breaks, comes back."""
    _build_deb(session)
    _python(session, "dpsr.main", "demo", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Side by side with partclone and dd, in one run."""
    _python(session, "bench", *session.posargs)


def _size(session: nox.Session) -> tuple[str, list[str]]:
    """Split the session's arguments into the size and what is meant for pytest."""
    parser = argparse.ArgumentParser(prog=f"./run {session.name}", allow_abbrev=False)
    parser.add_argument("--size", choices=tuple(LEFT_OUT), default="small")
    known, rest = parser.parse_known_args(session.posargs)
    return known.size, rest


def _python(session: nox.Session, module: str, *arguments: str) -> None:
    session.run(sys.executable, "-m", module, *arguments, external=True)


def _pytest(
    session: nox.Session,
    folder: str,
    marks: str,
    *arguments: str,
    root: bool = False,
    needs_deb: bool = False,
) -> None:
    """Run the tests of `folder`; a folder without a single test file is said to be skipped."""
    if not any((ROOT / folder).rglob("test_*.py")):
        session.skip(f"{folder} has no tests")
    if needs_deb:
        _build_deb(session)
    command = [sys.executable, "-m", "pytest", "-m", marks]
    if root and os.geteuid() != 0:
        # Root must not leave a cache that the user cannot write.
        command = ["sudo", "--", *command, "-p", "no:cacheprovider"]
    # A user's own folder or file takes the place of the whole folder; options do not.
    named = any(not argument.startswith("-") and Path(argument.split("::")[0]).exists()
                for argument in arguments)  # fmt: skip
    session.run(*command, *arguments, *(() if named else (folder,)), external=True)


def _build_deb(session: nox.Session, *options: str) -> Path:
    """Build the package, unless dist/ has it already made from the same content."""
    session.run(sys.executable, "packaging/build.py", *options, external=True)
    return max(DIST.glob("dpsr_*_all.deb"), key=lambda path: path.stat().st_mtime)
