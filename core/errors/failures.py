# SPDX-License-Identifier: GPL-3.0-or-later
"""A step failed after writing had begun (50-69), or something needs attention (70-79)."""

from core.errors.base import ToolError


class StepFailed(ToolError):
    """A step failed after writing had begun."""

    exit_code = 50
    hint = "Run the same command again: it goes on where that is possible."


class CommandFailed(StepFailed):
    """Another program failed; the message has its command line ready to paste."""

    exit_code = 51
    hint = "Run that command by hand to see more."

    def __init__(self, command: str, status: int, stderr: str) -> None:
        self.status = status
        self.stderr = stderr
        said = stderr.strip() or "it said nothing"
        super().__init__(f"`{command}` failed with exit status {status}: {said}")


class ReadFailed(StepFailed):
    """A disk could not be read."""

    exit_code = 52
    hint = "Look at `dmesg` and `smartctl -a`: the disk may be failing."


class WriteFailed(StepFailed):
    """The DPSR disk could not be written."""

    exit_code = 53
    hint = (
        "Look at `dmesg`, the cable and `smartctl -a` of the DPSR disk, then run the command "
        "again. If that fails, too, replace the disk and make a new copy with `dpsr prepare`."
    )


class FreezeFailed(StepFailed):
    """The point in time could not be taken: somebody else froze or thawed, or it took too long."""

    exit_code = 54
    hint = "Try again when no other backup runs."


class NeverQuiet(StepFailed):
    """The system wrote faster than the copy could follow."""

    exit_code = 55
    hint = "Try again at a quieter hour, or raise quiet_wait in /etc/dpsr/dpsr.toml."


class TrackerLost(StepFailed):
    """The tracker of writes saw too little, twice."""

    exit_code = 56
    hint = "Raise tracker_buffer in /etc/dpsr/dpsr.toml, or try again at a quieter hour."


class FixupFailed(StepFailed):
    """The copy could not be given its own identity."""

    exit_code = 57


class OldIdentityRemains(FixupFailed):
    """A file of the copy still names the primary."""

    exit_code = 58
    hint = "Remove that reference on this system or report it; then run the command again."


class LoaderFailed(StepFailed):
    """GRUB could not be installed, or does not read back."""

    exit_code = 59


class StateUnreadable(StepFailed):
    """The state block of the DPSR disk is damaged or could not be written."""

    exit_code = 60
    hint = "Run `dpsr prepare` on that disk again."


class BootOrderFailed(StepFailed):
    """The firmware did not take the boot entry."""

    exit_code = 61
    hint = "The copy boots all the same: choose the disk in the firmware's boot menu."


class ProgramTimeout(StepFailed):
    """Another program did not end in time."""

    exit_code = 62

    def __init__(self, command: str, seconds: float) -> None:
        super().__init__(f"`{command}` did not end within {seconds:g} s and was stopped.")


class CopyDiffers(StepFailed):
    """What was written does not read back."""

    exit_code = 63
    hint = "The disk or its cable does not keep what is written to it; replace it."


class VaultFull(StepFailed):
    """The vault of the DPSR disk has no room for what this update is about to overwrite."""

    exit_code = 64
    hint = (
        "Use a larger DPSR disk, or do without protection once: `dpsr prepare --again` copies "
        "without an undo log, and until it is complete there is no copy that starts."
    )


class UndoLogDamaged(StepFailed):
    """An undo log in the vault is damaged or missing."""

    exit_code = 65
    hint = "Make a new copy with `dpsr prepare`; look at `smartctl -a` of the disk first."


class HookFailed(StepFailed):
    """The administrator's command before the freeze failed, or took too long."""

    exit_code = 66
    hint = "Correct before_freeze in /etc/dpsr/dpsr.toml, or raise hook_seconds there."


class RescueFailed(StepFailed):
    """The rescue system could not be made, or has no room on the DPSR disk."""

    exit_code = 67
    hint = "See that mkinitramfs works on this machine, then run `dpsr update` again."


class NoMemory(StepFailed):
    """There is not enough free memory for the virtual machine of a drill."""

    exit_code = 68
    hint = "Give it less with `--memory`, or try again when the machine has less to do."


class DiskGone(StepFailed):
    """The DPSR disk went away in the middle: pulled out, or it does not answer any more."""

    exit_code = 69
    hint = (
        "Look at its cable and its bay. Once `dpsr disks` lists it again, run `dpsr update`; if it "
        "does not come back, replace it and make a new copy with `dpsr prepare`."
    )


class NoCopy(ToolError):
    """There is no complete copy."""

    exit_code = 70
    hint = "Make one with `dpsr prepare DISK`."


class CopyUnreachable(ToolError):
    """The DPSR disk is not there."""

    exit_code = 71
    hint = "Look whether the disk is plugged in; `dpsr disks` lists what is there."


class CopyStale(ToolError):
    """The copy is older than it should be."""

    exit_code = 72
    hint = "Run `dpsr update`."


class CopyOutgrown(ToolError):
    """The system has file systems that the DPSR disk has no place for, or not enough."""

    exit_code = 73
    hint = "Take it up with `dpsr prepare --again`."


class CopyDamaged(ToolError):
    """Something on the DPSR disk is not what was written there."""

    exit_code = 74
    hint = "Look at `smartctl -a` of that disk; if it is failing, replace it."


class NotVerified(ToolError):
    """The DPSR disk cannot be verified: there are no digests that speak of what it holds now."""

    exit_code = 75
    hint = "Run `dpsr update`: it makes them."


class HideFailed(ToolError):
    """The DPSR disk could not be detached from this system: it is read-only and ignored instead."""

    exit_code = 76
    hint = "Look at `dmesg`. The copy on it is as it was; the next `dpsr update` hides it again."
