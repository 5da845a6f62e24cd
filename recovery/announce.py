# SPDX-License-Identifier: GPL-3.0-or-later
"""On a running copy: says so to whoever logs in, and counts the one start that was a trial."""

import os
from pathlib import Path
from typing import Final

from builder.status import copy_we_run_from
from core.errors import ToolError
from core.files import sync_folder
from core.machine.look import glance
from core.model.state import State
from core.namespace import go_private
from core.screen import moment
from grub.state import write_state
from recovery.sides import locate_state

MOTD: Final = Path("/run/motd.d/dpsr")
ISSUE: Final = Path("/run/dpsr/issue")
"""/etc/issue.d/dpsr.issue, which the package brings, is a link to it."""

HEAD: Final = "THIS SYSTEM RUNS FROM THE DPSR DISK{of}, not from its own disk."
KEPT: Final = (
    "What you do here is kept on this disk. Leave it in the machine, and have the other one seen\n"
    "to: a new disk becomes the primary by `dpsr failback DISK`; if the old one is well,\n"
    "`dpsr switch primary` starts it again, without what was done here."
)
TRIAL: Final = (
    "This is a trial: what you do here is FORGOTTEN by the next update of the copy.\n"
    "`dpsr switch dpsr` keeps it and goes on from here; a restart goes back."
)


def words(state: State | None) -> str:
    """What a person reads; `state`: what the state block says, None: it cannot be read. Pure."""
    of = f" (copy of {moment(state.taken)})" if state and state.taken else ""
    trial = state is not None and state.trial != ""
    return "\n".join((HEAD.format(of=of), TRIAL if trial else KEPT))


def after_start(state: State) -> State:
    """What the state block says once the copy has started: one start is a trial, no more. Pure."""
    return state.with_trial({"1": "2"}.get(state.trial, ""))


def announce() -> None:
    """See above; does nothing on a system that is no copy on a DPSR disk."""
    home = copy_we_run_from(glance())
    if home is None:
        return
    state = None
    try:
        go_private()
        control = next(part for part in home.partitions if part.name == "dpsr-control")
        state_at, before = locate_state(control)
        state = after_start(before)
        if state != before:
            write_state(home.path, state_at, state)
    except (ToolError, OSError, StopIteration):
        pass  # nobody must be kept from working because this could not be read
    text = words(state)
    for path, content in ((MOTD, f"\n{text}\n\n"), (ISSUE, f"\n{text}\n\n")):
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        path.write_text(content, "utf-8")
        os.chmod(path, 0o644)
        sync_folder(path.parent)
