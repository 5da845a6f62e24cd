# SPDX-License-Identifier: GPL-3.0-or-later
"""Build dist/dpsr_VERSION_all.deb, unless it was already built from the same content.

The same content makes the same package, bit for bit, whatever else is committed meanwhile: the
date in it is that of the last commit that touched what is packaged. Whoever caches by the
package's content (the sample system) then builds nothing anew.
"""

import fcntl
import hashlib
import os
import re
import shutil
import sys
import textwrap
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from core.errors import CommandFailed, all_errors  # noqa: E402 - the clone is not installed
from core.run import have, run  # noqa: E402
from core.version import VERSION  # noqa: E402

PACKAGED: Final = (
    "core", "grub", "images", "builder", "recovery", "dpsr",
    "packaging/debian", "packaging/grub.d", "packaging/system-sleep",
    "packaging/initramfs", "packaging/systemd", "packaging/udev",
    "packaging/dpsr", "packaging/dpsr.8", "packaging/drill-signal", "packaging/hide-again",
    "packaging/note-boot",
    "CHANGELOG.md",
)  # fmt: skip
PACKAGE: Final = ROOT / "dist" / f"dpsr_{VERSION}_all.deb"
WORK: Final = ROOT / ".cache" / "deb"
LEFT_OUT: Final = ("__pycache__", "*.pyc", ".*")


def contents() -> list[Path]:
    """The files that make the package, sorted."""
    found: list[Path] = []
    for name in PACKAGED:
        found.extend((ROOT / name, *(ROOT / name).rglob("*")))
    return sorted(path for path in found if path.is_file() and "__pycache__" not in path.parts)


def digest(files: list[Path]) -> str:
    """One number for names, modes and contents."""
    total = hashlib.sha256()
    for path in files:
        mode = path.stat().st_mode & 0o111
        total.update(f"{path.relative_to(ROOT)}\0{bool(mode)}\0".encode())
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def date() -> int:
    """Seconds since 1970: the last commit that touched the package, or SOURCE_DATE_EPOCH."""
    given = os.environ.get("SOURCE_DATE_EPOCH", "")
    if not given and have("git"):
        try:
            said = run("git", "-C", str(ROOT), "-c", f"safe.directory={ROOT}",
                       "log", "-1", "--format=%ct", "--", *PACKAGED)  # fmt: skip
            given = said.strip()
        except CommandFailed:
            given = ""  # an unpacked archive, not a clone
    return int(given) if given else int((ROOT / "CHANGELOG.md").stat().st_mtime)


def changelog(text: str, epoch: int) -> str:
    """Debian's changelog from the entries of CHANGELOG.md, all dated `epoch`."""
    when = format_datetime(datetime.fromtimestamp(epoch, UTC))
    control = (ROOT / "packaging/debian/control").read_text()
    maintainer = control.partition("Maintainer: ")[2].partition("\n")[0]
    entries = []
    for section in text.split("\n## ")[1:]:
        version, _, body = section.partition("\n")
        points = (" ".join(point.split()) for point in f"\n{body}".split("\n- ")[1:])
        said = "\n".join(
            textwrap.fill(point, 78, initial_indent="  * ", subsequent_indent="    ")
            for point in points
        )
        entries.append(
            f"dpsr ({version.strip()}) unstable; urgency=medium\n\n{said}\n\n"
            f" -- {maintainer}  {when}\n"
        )
    return "\n".join(entries)


def with_codes(man: str) -> str:
    """The man page with the exit codes of core/errors where a comment asks for a range of them."""

    def listed(asked: re.Match[str]) -> str:
        lowest, highest = int(asked[1]), int(asked[2])
        errors = sorted((error.exit_code, error.__doc__ or "") for error in all_errors())
        return "".join(
            f".TP\n.B {code}\n{said.partition(chr(10) * 2)[0].strip()}\n"
            for code, said in errors
            if lowest <= code <= highest
        )

    return re.sub(r'\.\\" codes (\d+) (\d+)\n', listed, man)


def build() -> None:
    """Put the sources together in .cache/deb and let dpkg-buildpackage make the package."""
    tree = WORK / f"dpsr-{VERSION}"
    shutil.rmtree(WORK, ignore_errors=True)
    tree.mkdir(parents=True)
    for name in PACKAGED:
        source = ROOT / name
        (tree / name).parent.mkdir(exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, tree / name, ignore=shutil.ignore_patterns(*LEFT_OUT))
        else:
            shutil.copy2(source, tree / name)
    (tree / "packaging/debian").rename(tree / "debian")
    page = tree / "packaging/dpsr.8"
    page.write_text(with_codes(page.read_text()))
    epoch = date()
    log = changelog((ROOT / "CHANGELOG.md").read_text(), epoch)
    if not log.startswith(f"dpsr ({VERSION})"):
        sys.exit(f"CHANGELOG.md does not begin with {VERSION}, the version in core/version.py")
    (tree / "debian/changelog").write_text(log)
    for path in (tree, *tree.rglob("*")):
        os.utime(path, (epoch, epoch))  # else a clone's own times get into the package
    # What it needs is in system-packages.txt; build-essential is not, for nothing is compiled here.
    how = ("--build=binary", "--no-sign", "--no-check-builddeps")
    run("env", "-C", str(tree), "dpkg-buildpackage", *how, timeout=600)
    PACKAGE.parent.mkdir(exist_ok=True)
    shutil.move(WORK / PACKAGE.name, PACKAGE)


def main() -> None:
    """Build when needed, or always with --again, and print where the package is."""
    made_from = PACKAGE.with_suffix(".made-from")
    WORK.parent.mkdir(exist_ok=True)
    with WORK.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a second build waits, and then has nothing to do
        now = digest(contents())
        known = made_from.read_text() if PACKAGE.exists() and made_from.exists() else ""
        if known != now or "--again" in sys.argv[1:]:
            build()
            made_from.write_text(now)
    print(PACKAGE)  # noqa: T201 - that is its answer


if __name__ == "__main__":
    main()
