# SPDX-License-Identifier: GPL-3.0-or-later
"""Where this machine gets Debian's packages from: samples get theirs from the same place."""

import os

from core.errors import ImageUnusable
from core.run import run


def debian_mirror() -> str:
    """The address of the Debian archive, without a slash at its end; DPSR_MIRROR overrides it.

    Raises ImageUnusable when apt knows none.
    """
    if chosen := os.environ.get("DPSR_MIRROR"):
        return chosen.rstrip("/")
    form = ("--format", "$(REPO_URI)")
    for line in run("apt-get", "indextargets", *form, "Created-By: Packages").splitlines():
        if line.rstrip("/").endswith("/debian"):
            return line.rstrip("/")
    raise ImageUnusable(
        "apt knows no archive of Debian on this machine.", "Name one: DPSR_MIRROR=ADDRESS."
    )
