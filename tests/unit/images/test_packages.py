# SPDX-License-Identifier: GPL-3.0-or-later
"""A sample has no network: what the package depends on must be in it before."""

import re
from pathlib import Path

from images.recipe import DPSR_PACKAGES, SYSTEM_PACKAGES

CONTROL = Path(__file__).parents[3] / "packaging" / "debian" / "control"


def test_a_sample_has_all_that_the_package_depends_on() -> None:
    text = CONTROL.read_text(encoding="utf-8")
    found = re.search(r"^Depends:\n((?: .*\n)+)", text, re.MULTILINE)
    assert found is not None
    wanted = {line.strip(" ,") for line in found[1].splitlines() if "$" not in line}
    assert len(wanted) > 20
    assert wanted <= {*DPSR_PACKAGES, *SYSTEM_PACKAGES}
