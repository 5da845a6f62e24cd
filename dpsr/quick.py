# SPDX-License-Identifier: GPL-3.0-or-later
"""Imports typer without rich, which older typers load whole: `dpsr status` is asked often.

Debian 12's typer (0.7) would take a quarter of a second more. Its plain help is what all versions
print with `rich_markup_mode=None`.
"""

import sys

_rich = sys.modules.get("rich")
sys.modules["rich"] = None  # type: ignore[assignment] # an import of it fails, as if not installed
try:
    import typer
    import typer.core
finally:
    if _rich is None:
        del sys.modules["rich"]
    else:
        sys.modules["rich"] = _rich

__all__ = ["typer"]
