# SPDX-License-Identifier: GPL-3.0-or-later
"""The version: the package, `dpsr --version` and the manifests take it from here."""

from typing import Final

VERSION: Final = "0.1.0"
