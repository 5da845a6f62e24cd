# SPDX-License-Identifier: GPL-3.0-or-later
"""What a guest's console and report mean: text in, verdict out. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final


class Verdict(StrEnum):
    """How a drill ended. The words are a promise to programs (`--json`)."""

    BOOTED = "booted"
    PANIC = "panic"
    NO_LOADER = "no-loader"
    NO_CONFIG = "no-config"
    EMERGENCY = "emergency"
    DEGRADED = "degraded"
    LOCKED = "locked"
    CHECK_FAILED = "check-failed"
    SILENT = "silent"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Sign:
    """Words on the console that tell how it ends.

    `settle`: seconds for which no stage may begin afterwards before the sign counts, for what
    some loaders say and then go on all the same.
    """

    pattern: re.Pattern[str]
    verdict: Verdict
    says: str
    settle: float = 0.0


def _sign(pattern: str, verdict: Verdict, says: str, settle: float = 0.0) -> Sign:
    return Sign(re.compile(pattern, re.MULTILINE), verdict, says, settle)


SIGNS: Final = (
    _sign(r"Kernel panic - not syncing", Verdict.PANIC, "the kernel panicked"),
    _sign(r"No bootable (?:device|option or device)", Verdict.NO_LOADER, "nothing to start from"),
    _sign(r"UEFI Interactive Shell|^Shell> ", Verdict.NO_LOADER, "the firmware found no loader"),
    _sign(r"Security Violation", Verdict.NO_LOADER, "Secure Boot refused the loader"),
    _sign(r"bad shim signature", Verdict.NO_CONFIG, "Secure Boot refused the kernel", 15.0),
    _sign(r"not a bootable disk", Verdict.NO_LOADER, "the disk has no boot sector", 15.0),
    _sign(r"grub rescue> ?", Verdict.NO_CONFIG, "GRUB found nothing of its own"),
    _sign(r"^grub> ?", Verdict.NO_CONFIG, "GRUB found no configuration"),
    _sign(r"Minimal BASH-like line", Verdict.NO_CONFIG, "GRUB found no configuration", 2.0),
    _sign(r"load the kernel first", Verdict.NO_CONFIG, "GRUB found no kernel", 15.0),
    _sign(r"file `[^']*vmlinu[^']*' not found", Verdict.NO_CONFIG, "GRUB found no kernel", 25.0),
    _sign(
        r"Please (?:unlock disk|enter passphrase)|Enter passphrase for ",
        Verdict.LOCKED,
        "it asks for a passphrase",
    ),
    _sign(
        r"Dropping to a shell!|^\(initramfs\) ?",
        Verdict.EMERGENCY,
        "the initramfs found no root file system",
    ),
    _sign(
        r"You are in emergency mode|Cannot open access to console, the root account is locked"
        r"|Give root password for maintenance|Press Enter for maintenance",
        Verdict.EMERGENCY,
        "systemd ended in emergency mode",
    ),
)
"""In order of preference, when one look at the console shows several."""

STAGES: Final = (
    ("loader", re.compile(r"GRUB version|Welcome to GRUB|GNU GRUB|DPSR: ")),
    ("kernel", re.compile(r"Linux version \d|EFI stub: |Loading Linux |Decompressing Linux")),
    (
        "system",
        re.compile(
            r"systemd\[1\]: |Welcome to (?!GRUB).+!|systemd \d+[^ ]* running in system mode"
        ),
    ),
    ("login", re.compile(r"^\S+ login: ", re.MULTILINE)),
)
"""What a start goes through, and the words that show that it has come there."""

_KEEP: Final = 4096
"""Characters of what was heard that are looked at again, in case a sign came in pieces."""


@dataclass(frozen=True, slots=True)
class Ending:
    """A verdict, and the words for a person."""

    verdict: Verdict
    says: str


@dataclass(slots=True)
class Listener:
    """Hears the console piece by piece; remembers when each stage was first seen."""

    signs: Sequence[Sign] = SIGNS
    stages: dict[str, float] = field(default_factory=dict)
    """Stage -> seconds at which it was heard first."""
    _recent: str = ""
    _pending: tuple[Sign, float] | None = None

    def hear(self, text: str, now: float) -> Ending | None:
        """Take in `text`, heard at `now` (seconds); the ending, if it says so."""
        seen = len(self._recent)
        self._recent += text
        for stage, pattern in STAGES:
            # A stage cancels what had to settle, whenever it comes again: GRUB may try twice.
            if any(match.end() > seen for match in pattern.finditer(self._recent)):
                self.stages.setdefault(stage, now)
                if stage != "loader":
                    self._pending = None
        for sign in self.signs:
            if not any(match.end() > seen for match in sign.pattern.finditer(self._recent)):
                continue
            if sign.settle == 0.0:
                return Ending(sign.verdict, sign.says)
            if self._pending is None:
                self._pending = (sign, now)
        self._recent = self._recent[-_KEEP:]
        if self._pending is not None and now - self._pending[1] >= self._pending[0].settle:
            return Ending(self._pending[0].verdict, self._pending[0].says)
        return None


GIVEN: Final = "given"
NOT_CHECKED: Final = "the system is up, but has no dpsr that is new enough to run the check in it"


@dataclass(frozen=True, slots=True)
class Report:
    """What the drill's own unit in the guest said."""

    state: str
    """As `systemctl is-system-running` has it."""
    root: str
    """UUID of the root file system."""
    failed: tuple[str, ...]
    check: str
    """Name of the user's check that failed, or empty; `GIVEN`: the one that the drill brought."""
    checked: bool = False
    """Whether the check that the drill brought was run."""
    said: str = ""
    """The last line that it said."""

    def ending(self, *, given: bool = False) -> Ending:
        """What it comes to; `given`: whether the drill brought a check."""
        match self.state:
            case "running" if self.check == GIVEN:
                why = f": {self.said}" if self.said else ""
                return Ending(Verdict.CHECK_FAILED, f"the check failed{why}")
            case "running" if self.check:
                return Ending(Verdict.CHECK_FAILED, f"the check {self.check} failed")
            case "running" if given and not self.checked:
                return Ending(Verdict.CHECK_FAILED, NOT_CHECKED)
            case "running":
                return Ending(Verdict.BOOTED, "the system is up")
            case "maintenance":
                return Ending(Verdict.EMERGENCY, "systemd ended in emergency mode")
            case _:
                units = ", ".join(self.failed) or "none that systemd names"
                return Ending(
                    Verdict.DEGRADED,
                    f"the system is {self.state or 'in no known state'}; failed units: {units}",
                )


def read_report(data: bytes, nonce: str) -> Report | None:
    """The report, once it is complete; None before. Only one that carries the nonce counts."""
    text = data.decode("utf-8", "replace")
    values = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    if not text.endswith("\n") or values.get("nonce") != nonce:
        return None
    return Report(
        values.get("state", ""),
        values.get("root", ""),
        tuple(values.get("failed", "").split()),
        values.get("check", ""),
        values.get("checked") == "yes",
        values.get("said", ""),
    )
