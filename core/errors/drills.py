# SPDX-License-Identifier: GPL-3.0-or-later
"""A drill did not pass: the exit code says how the guest ended (80-89)."""

from core.errors.base import ToolError


class DrillFailed(ToolError):
    """The guest did not reach a running system; the exit code says how it ended."""

    exit_code = 80
    hint = "Look at the screenshot and the console log named above."


class DrillPanic(DrillFailed):
    """The kernel panicked."""

    exit_code = 81


class DrillNoLoader(DrillFailed):
    """The firmware found no boot loader."""

    exit_code = 82


class DrillNoConfig(DrillFailed):
    """The loader found no configuration or no kernel."""

    exit_code = 83


class DrillEmergency(DrillFailed):
    """systemd ended in emergency mode, or the initramfs in its shell."""

    exit_code = 84


class DrillDegraded(DrillFailed):
    """The system runs with failed units."""

    exit_code = 85


class DrillLocked(DrillFailed):
    """The guest asks for a passphrase."""

    exit_code = 86


class DrillCheckFailed(DrillFailed):
    """The user's own check script failed."""

    exit_code = 87


class DrillSilent(DrillFailed):
    """Nothing was heard in time."""

    exit_code = 88


class DrillEnded(DrillFailed):
    """The guest ended by itself."""

    exit_code = 89
