# SPDX-License-Identifier: GPL-3.0-or-later
"""`dpsr status`, without what only the other commands need."""

import json
import sys


def show(name: str, *, as_json: bool) -> int:
    """Print the status of the backup set `name`; returns the exit code.

    0: there is a good copy. Else that of NoCopy, CopyUnreachable or CopyOutgrown.
    """
    from datetime import UTC, datetime

    from builder.status import status
    from core import settings
    from core.errors import CopyOutgrown, CopyUnreachable, NoCopy
    from core.machine.look import glance, look
    from dpsr.report import status_as_json, status_as_text

    known = settings.load()
    found = status(glance(), known, name)
    if found.recorded is not None and found.disk is None:
        found = status(look(), known, name)
    now = datetime.now(UTC)
    if as_json:
        sys.stdout.write(json.dumps(status_as_json(found, now), indent=2) + "\n")
    else:
        sys.stdout.write(status_as_text(found, now))
    if found.state in {"none", "building"}:
        return NoCopy.exit_code
    if found.state == "clean" and found.disk and not found.trouble and found.changes:
        return CopyOutgrown.exit_code
    return 0 if found.healthy else CopyUnreachable.exit_code
