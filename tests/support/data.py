# SPDX-License-Identifier: GPL-3.0-or-later
"""Where captured files and samples of formats are."""

from pathlib import Path
from typing import Final

DATA: Final = Path(__file__).parents[1] / "data"
