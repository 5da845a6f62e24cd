# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian packages for guests, which have no network: fetched here by apt, kept in the cache."""

import functools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from core.run import run
from images import cache
from images.guest import Guest
from images.mirror import debian_mirror
from images.recipe import SUITES, key
from images.vm import DiskSpec

_KEYS: Final = "/usr/share/keyrings/debian-archive-keyring.gpg"


class Archive:
    """The archive of one Debian release, as apt sees it from a folder of its own."""

    def __init__(self, release: int) -> None:
        self._suite = SUITES[release]
        self._folder = cache.folder() / "apt" / self._suite
        for name in ("lists/partial", "cache/archives/partial"):
            (self._folder / name).mkdir(parents=True, exist_ok=True)
        (self._folder / "status").touch()
        mirror = debian_mirror()
        lines = (f"{mirror} {self._suite}", f"{mirror}-security {self._suite}-security")
        text = "".join(f"deb [arch=amd64 signed-by={_KEYS}] {line} main\n" for line in lines)
        (self._folder / "sources.list").write_text(text)
        self._update()

    @functools.cached_property
    def _options(self) -> tuple[str, ...]:
        places = {
            "Dir::Etc::sourcelist": "sources.list", "Dir::State::status": "status",
            "Dir::State::lists": "lists", "Dir::Cache": "cache",
        }  # fmt: skip
        return (
            *(f"--option={name}={self._folder / path}" for name, path in places.items()),
            "-o", "Dir::Etc::sourceparts=-", "-o", "Debug::NoLocking=1",
            "-o", "APT::Architecture=amd64", "-o", "APT::Architectures=amd64",
            "-o", "APT::Sandbox::User=", "-o", "Acquire::Languages=none",
        )  # fmt: skip

    def _update(self) -> None:
        with cache.waiting(self._folder / "lock"):
            run("apt-get", *self._options, "--quiet", "update", timeout=600)

    def newer_kernel(self, running: str) -> str:
        """A package with a kernel that GRUB prefers to the one that runs (`uname -r`).

        Of the same flavour where the archive has one, else the real-time kernel, whose name
        sorts last.
        """
        flavour = running.split("-", 1)[1]
        said = run("apt-cache", *self._options, "search", "--names-only", r"^linux-image-[0-9]")
        names = [line.split()[0].removeprefix("linux-image-") for line in said.splitlines()]
        same = [name for name in names if name.split("-", 1)[1:] == [flavour]]
        best = max([*same, running], key=_order)
        if best != running:
            return f"linux-image-{best}"
        return "linux-image-" + max((n for n in names if n.endswith("-rt-amd64")), key=_order)

    def missing(self, status: bytes, *names: str) -> Sequence[str]:
        """These packages, and all that they need beyond what is installed.

        `status`: the guest's /var/lib/dpkg/status.
        """
        with cache.scratch() as folder:
            (folder / "status").write_bytes(status)
            said = run(
                "apt-get", *self._options, "-o", f"Dir::State::status={folder / 'status'}",
                "--simulate", "--no-install-recommends", "install", *names, timeout=120,
            )  # fmt: skip
        return re.findall(r"^Inst (\S+)", said, re.MULTILINE)

    def fetch(self, *names: str) -> Sequence[Path]:
        """Download packages (without what they depend on)."""
        policy = run("apt-cache", *self._options, "policy", *names)
        versions = re.findall(r"Candidate: (\S+)", policy)

        def download(folder: Path) -> None:
            # apt-get download puts them into the current folder.
            run("sh", "-ec", 'cd "$0"; apt-get "$@"', str(folder), *self._options, "--quiet",
                "download", *names, timeout=1200)  # fmt: skip

        return sorted(cache.built("debs", key(names, versions), download).glob("*.deb"))


def install(guest: Guest, archive: Archive, *names: str) -> None:
    """Install packages in a guest as a user does; it has no network."""
    folder = archive.fetch(*names)[0].parent
    image = guest.folder / "debs.img"
    run("mke2fs", "-qF", "-t", "ext4", "-d", str(folder), str(image), "512m")
    guest.plug(DiskSpec(image, "virtio", "DEBS"))
    device = guest.wait_disk("DEBS")
    guest.sh(
        f"mkdir /run/debs; mount -o ro {device} /run/debs; "
        "DEBIAN_FRONTEND=noninteractive dpkg -i /run/debs/*.deb; update-grub; umount /run/debs",
        timeout=1200,
    )
    guest.unplug("DEBS")


def _order(release: str) -> tuple[tuple[int, str], ...]:
    """Sorts releases of one flavour as GRUB does."""
    return tuple(
        (int(word), "") if word.isdigit() else (0, word) for word in re.split(r"[.+-]|deb", release)
    )
