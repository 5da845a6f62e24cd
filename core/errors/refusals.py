# SPDX-License-Identifier: GPL-3.0-or-later
"""Refused: nothing was written (exit codes 10-49)."""

from collections.abc import Sequence

from core.errors.base import ToolError


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

    def __init__(self, disk: str, what: str, hint: str | None = None) -> None:
        super().__init__(f"{disk} belongs to {what}. Nothing was written.", hint)


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


class NotAWholeDisk(Refused):
    """The name is that of a partition."""

    exit_code = 38

    def __init__(self, name: str, disk: str) -> None:
        super().__init__(
            f"{name} is a partition of {disk}. A DPSR disk is a whole disk. Nothing was written.",
            f"If you mean all of it, name the disk: {disk}, or better its serial number.",
        )


class NoSerial(Refused):
    """The disk has neither a serial number nor a WWN."""

    exit_code = 39
    hint = (
        "Use a disk that has one. A virtual disk gets one from its host "
        "(QEMU: serial=…, libvirt: <serial>)."
    )

    def __init__(self, disk: str) -> None:
        super().__init__(
            f"{disk} has neither a serial number nor a WWN: after the next start nothing would "
            "tell it from other disks. Nothing was written."
        )


class ChainClosed(Refused):
    """The chain of undo logs does not lead there any more, as after a boot of the copy."""

    exit_code = 40
    hint = "The newest generation is all that there is; `dpsr update` makes the next."


class NoSuchGeneration(Refused):
    """The DPSR disk has no such generation."""

    exit_code = 41
    hint = "`dpsr history` lists the generations that can be gone back to."


class ShapeChanged(Refused):
    """A file system of the primary is new, another one, or does not fit its slot any more."""

    exit_code = 42
    hint = "Take up the change with `dpsr prepare --again`: it lays the DPSR disk out anew."


class ChangeTooLarge(Refused):
    """More would change than max_change allows: so look ransomware, and a mass deletion."""

    exit_code = 43
    hint = "Look at the system first. If the change is meant, run it again with --accept-change."


class WorkOnCopy(Refused):
    """The copy was booted since the last backup: what was done there would be lost."""

    exit_code = 44
    hint = (
        "Fetch what you need from the copy first. To give the rest up, run the command again with "
        "--discard-work-on-copy."
    )


class AlreadyPrepared(Refused):
    """The disk is a DPSR disk already, and holds a complete copy."""

    exit_code = 45
    hint = "`dpsr update` brings it up to date; `dpsr prepare --again` lays it out anew."


class CopyNotComplete(Refused):
    """The DPSR disk holds no complete copy at the moment: nothing is switched to it."""

    exit_code = 46
    hint = "Complete it first: `dpsr update`, or `dpsr prepare` where there was no copy yet."


class NoWayThere(Refused):
    """What this machine starts next cannot be set from here."""

    exit_code = 47
    hint = "Choose the disk in the firmware's boot menu when the machine starts."


class CannotWrite(Refused):
    """A file of the boot loader, or the firmware's memory for boot entries, cannot be written."""

    exit_code = 48
    hint = "Choose the disk in the firmware's boot menu when the machine starts."


class GuardImpossible(Refused):
    """GRUB has no place on this machine where it could count starts."""

    exit_code = 49
    hint = "Without it a person chooses the DPSR disk; `dpsr card` prints how."
