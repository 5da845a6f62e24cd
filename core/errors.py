# SPDX-License-Identifier: GPL-3.0-or-later
"""Every way in which a command can end badly: one class, one sentence, one hint, one exit code.

The numbers are a promise to programs that call `dpsr` (README lists them, a test compares):
10-49 refused, nothing was written; 50-69 a step failed, the message says what the DPSR disk
holds now; 70-79 attention; 80-89 a drill did not pass.
"""

from collections.abc import Iterator, Sequence
from typing import ClassVar


class ToolError(Exception):
    """Something a person can act on. `str()` is the sentence; `hint` says what to do next."""

    exit_code: ClassVar[int] = 1
    hint: str = "This is a fault of dpsr itself; please report it with the output above."

    def __init__(self, sentence: str, hint: str | None = None) -> None:
        super().__init__(sentence)
        if hint is not None:
            self.hint = hint


def all_errors(base: type[ToolError] = ToolError) -> Iterator[type[ToolError]]:
    """Yield each error class below `base`, in the order of definition."""
    for child in base.__subclasses__():
        yield child
        yield from all_errors(child)


# --- refused: nothing was written ---------------------------------------------------------


class Refused(ToolError):
    """Nothing was written."""

    exit_code = 10
    hint = "Correct the command and try again."


class NotRoot(Refused):
    """The command needs root."""

    exit_code = 11
    hint = "Run it again with sudo, or as root."

    def __init__(self, command: str) -> None:
        super().__init__(f"dpsr {command} must be run as root. Nothing was written.")


class NoSuchDisk(Refused):
    """No disk of this machine has that name."""

    exit_code = 12
    hint = "`dpsr disks` lists the disks of this machine and their serial numbers."

    def __init__(self, name: str) -> None:
        super().__init__(f"No disk of this machine is called {name}. Nothing was written.")


class AmbiguousDisk(Refused):
    """Several disks share that name."""

    exit_code = 13
    hint = "Name the disk by its WWN or by a /dev/disk/by-path link: `dpsr disks` lists them."

    def __init__(self, name: str, paths: Sequence[str]) -> None:
        super().__init__(f"{name} could be any of {', '.join(paths)}. Nothing was written.")


class NoStableName(Refused):
    """`--yes` with a name that may mean another disk after the next boot."""

    exit_code = 14
    hint = (
        "With --yes, name the disk by serial number, WWN or /dev/disk/by-id: "
        "`dpsr disks` lists them."
    )


class DiskIsPrimary(Refused):
    """The disk named is the primary, or part of it, or holds the root file system."""

    exit_code = 15
    hint = "Name another disk: `dpsr disks` shows the role of each."


class DiskMounted(Refused):
    """A file system of the disk is mounted."""

    exit_code = 16
    hint = "Unmount it if nobody needs it, or name another disk."

    def __init__(self, disk: str, where: str) -> None:
        super().__init__(f"{disk} is mounted at {where}. Nothing was written.")


class DiskIsSwap(Refused):
    """The disk serves as swap."""

    exit_code = 17
    hint = "Take it out of use with swapoff, or name another disk."

    def __init__(self, disk: str, path: str) -> None:
        super().__init__(f"{disk} is in use as swap ({path}). Nothing was written.")


class DiskIsMember(Refused):
    """The disk is a member of md, LVM or device mapper, or multipath."""

    exit_code = 18
    hint = "Take it out of that array or volume group first, or name another disk."

    def __init__(self, disk: str, what: str) -> None:
        super().__init__(f"{disk} belongs to {what}. Nothing was written.")


class DiskReadOnly(Refused):
    """The disk cannot be written."""

    exit_code = 19
    hint = "Look for a write-protect switch, or `blockdev --setrw` if you set it yourself."

    def __init__(self, disk: str) -> None:
        super().__init__(f"{disk} is read-only. Nothing was written.")


class DiskTooSmall(Refused):
    """The volumes do not fit; the message says by how many MiB and what could be left out."""

    exit_code = 20
    hint = "Use a larger disk, or leave a volume out with --exclude."


class NoRoomForVault(Refused):
    """The volumes fit, but not the control partition and the vault beside them."""

    exit_code = 21
    hint = "Use a disk that is a little larger, or leave a volume out with --exclude."


class WrongSerialTyped(Refused):
    """The serial number that was typed is not that of the disk."""

    exit_code = 22
    hint = "Compare the label on the drive with `dpsr disks`, then try again."

    def __init__(self, typed: str, disk: str, serial: str) -> None:
        super().__init__(
            f"You typed {typed!r}, but {disk} has the serial number {serial}. Nothing was written."
        )


class ProgramMissing(Refused):
    """A program that is needed is not installed."""

    exit_code = 23

    def __init__(self, program: str, package: str = "") -> None:
        super().__init__(
            f"The program {program} is missing. Nothing was written.",
            f"Install it with: apt install {package}"
            if package
            else "Install the package that brings it.",
        )


class KernelFeatureMissing(Refused):
    """The running kernel lacks something that is needed."""

    exit_code = 24
    hint = "Boot a standard Debian kernel, then try again."

    def __init__(self, feature: str, why: str) -> None:
        super().__init__(
            f"This kernel has no {feature}, which is needed to {why}. Nothing was written."
        )


class CannotCopyFileSystem(Refused):
    """A volume has a file system that this version cannot copy live."""

    exit_code = 25
    hint = "Leave it out with --exclude MOUNTPOINT."


class AlreadyRunning(Refused):
    """Another dpsr is at work."""

    exit_code = 26
    hint = "Wait for it to finish; `dpsr status` shows what it does."

    def __init__(self, what: str) -> None:
        super().__init__(f"Another dpsr is at work ({what}). Nothing was written.")


class NotPrepared(Refused):
    """There is no DPSR disk in the configuration, or the disk is none."""

    exit_code = 27
    hint = "Make one with `dpsr prepare DISK`; `dpsr disks` lists the disks."


class BadSettings(Refused):
    """dpsr.toml cannot be used."""

    exit_code = 28
    hint = "Correct that line in /etc/dpsr/dpsr.toml, or let `dpsr prepare` write it anew."


class RunningFromCopy(Refused):
    """The system runs from the DPSR disk, where copies would flow backwards."""

    exit_code = 29
    hint = "The way home is `dpsr failback DISK`."


class NotAClone(Refused):
    """`fixup` was given a disk that holds no copy of this system."""

    exit_code = 30
    hint = "Name a disk that `dpsr prepare` or a cloning tool has made from this system."


class ImageUnusable(Refused):
    """`drill` was given something that is no disk image."""

    exit_code = 31
    hint = "Name a raw or qcow2 image of a whole disk."


class DiskInUse(Refused):
    """Another program holds the disk."""

    exit_code = 32
    hint = "Find it with `fuser -v` or `lsblk`, end it, then try again."

    def __init__(self, disk: str) -> None:
        super().__init__(f"{disk} is held by another program. Nothing was written.")


class UnknownFormat(Refused):
    """Something on disk was written by a version that this one does not know."""

    exit_code = 33
    hint = "Install the version of dpsr that wrote it, or a newer one."


class NoSuchVolume(Refused):
    """`--volume` or `--exclude` names no file system of the primary, or one that must stay."""

    exit_code = 34
    hint = "`findmnt --real` lists the file systems; / and what it boots from must be in the set."


class NotEnoughMemory(Refused):
    """Not enough memory for what was asked."""

    exit_code = 35
    hint = "Free some memory, or give less with --memory."


class PrimaryNotSupported(Refused):
    """The primary's layout is none that this version can copy."""

    exit_code = 36
    hint = "docs/decisions.md lists the layouts that work today."


class NotConfirmed(Refused):
    """Nobody was there to answer the question, or the answer was no."""

    exit_code = 37
    hint = "Run it on a terminal, or with --yes and the disk's serial number."


# --- a step failed: the message says what the DPSR disk holds now --------------------------


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
    hint = "Look at `dmesg`, the cable and `smartctl -a`; replace the disk if it is failing."


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


# --- attention ------------------------------------------------------------------------------


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


# --- a drill did not pass -----------------------------------------------------------------------


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
