# SPDX-License-Identifier: GPL-3.0-or-later
"""The drill: boots a throw-away overlay of a disk image and finds out whether a system comes up."""

import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pexpect import EOF, TIMEOUT

from core.errors import ImageUnusable
from core.run import need
from images import accel, bounds, cache, disks, inspect
from images.console import tail
from images.guest import Guest
from images.signs import NOT_CHECKED, Ending, Listener, Report, Verdict, read_report
from images.vm import Bus, DiskSpec, Drilled, Firmware
from images.wire import Gone, GuestError

TIMEOUT_SECONDS: Final = 600.0
_MAX_RESETS: Final = 3
"""A loader may reset the machine once or twice on purpose (shim does); more is a loop."""
_LOGIN_GRACE: Final = 20.0
"""A login prompt counts when no report came for as long as the start took, and this many seconds:
services may go on starting for a while, and a system with dpsr has more to say than a prompt."""

_STAGE_WORDS: Final = {
    "loader": "the boot loader runs", "kernel": "the kernel runs",
    "system": "systemd runs", "login": "a login prompt is there",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a drill went. Times in seconds since the machine was switched on."""

    verdict: Verdict
    says: str
    seconds: float
    firmware: Firmware
    accelerated: bool
    generation: int | None = None
    screenshot: Path | None = None
    report: Report | None = None
    stages: dict[str, float] = field(default_factory=dict)
    console: str = ""
    """Last lines of the serial console."""
    secure: bool = False
    """With Secure Boot."""

    @property
    def passed(self) -> bool:
        """Whether the system is up, and all of it."""
        return self.verdict is Verdict.BOOTED

    def as_json(self) -> dict[str, object]:
        """The document of `dpsr drill --json`."""
        return {
            "passed": self.passed, "verdict": str(self.verdict), "seconds": round(self.seconds, 1),
            "firmware": self.firmware, "secure_boot": self.secure, "generation": self.generation,
            "screenshot": str(self.screenshot) if self.screenshot else None,
            "says": self.says, "proof": "credential" if self.report else "console",
            "root_uuid": self.report.root if self.report else None,
            "failed_units": list(self.report.failed) if self.report else [],
            "stages": {name: round(at, 1) for name, at in self.stages.items()},
            "accelerated": self.accelerated,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Order:
    """What to drill, and how."""

    image: Path
    firmware: Firmware | None = None
    """None: what fits to the disk."""
    secure: bool | None = None
    """Secure Boot; None: where the disk has signed loaders, and `secure_here`."""
    secure_here: bool = False
    """Whether Secure Boot is on in the machine that the disk is for."""
    bus: Bus = "virtio"
    timeout: float = TIMEOUT_SECONDS
    memory_mib: int = 1024
    vars: Path | None = None
    """Firmware variables to start with; None: empty, as in a machine that never saw the disk."""
    screenshot: Path | None = None
    console: Path | None = None
    """Where to keep the console log."""
    check: bytes = b""
    """A script that is to run in the system once it is up."""


def drill(order: Order, note: Callable[[str], None] = lambda _: None) -> Outcome:
    """Boot the image and say how it went; the image is not changed.

    Raises ImageUnusable, NoMemory, ProgramMissing.
    """
    need("qemu-system-x86_64", "qemu-img")
    bounds.need_memory(order.memory_mib)
    if not order.image.exists():
        raise ImageUnusable(f"There is no {order.image}.")
    disks.virtual_size(order.image)
    nonce = secrets.token_hex(16)
    with cache.scratch() as folder:
        head = inspect.read(order.image, 0, inspect.HEAD, folder).read_bytes()
        firmware = order.firmware or inspect.firmware_for(head)
        found = inspect.control(order.image, head, folder)
        secure = is_secure(order, firmware, signed=found.secure)
        accelerated = accel.accelerator() == accel.KVM
        note(
            f"Starting {order.image.name} in a virtual machine ({firmware.upper()}"
            f"{' with Secure Boot' if secure else ''}, "
            f"{'with' if accelerated else 'without'} KVM, no network, nothing is written to it)"
        )
        report_file = folder / "report"
        machine = Guest(
            [DiskSpec(order.image, order.bus, "DRILL")], firmware, memory_mib=order.memory_mib,
            agent=False, drill=Drilled(nonce, report_file, order.check), secure=secure,
            vars=disks.new_vars(folder / "vars.qcow2", order.vars) if order.vars else None,
            before=bounds.bounded(order.memory_mib),
        )  # fmt: skip
        begun = time.monotonic()
        try:
            with machine as guest:
                watch = _Watch(guest, report_file, order, nonce, begun, note)
                ending = watch.until(begun + order.timeout)
                seconds = time.monotonic() - begun
                shot = _screenshot(guest, order.screenshot)
                if order.console is not None:
                    guest.pull_power()
                    order.console.write_bytes(guest.console_log.read_bytes())
                return Outcome(
                    ending.verdict, ending.says, seconds, firmware, accelerated, found.generation,
                    shot, watch.report, watch.listener.stages, tail(guest.console_log), secure,
                )  # fmt: skip
        except GuestError as error:
            raise ImageUnusable(
                f"QEMU could not start {order.image}: {error} {_notes(error)}".strip()
            ) from error


def is_secure(order: Order, firmware: Firmware, *, signed: bool) -> bool:
    """Whether a drill is one with Secure Boot; `signed`: whether the disk's loaders are. Pure.

    Asked for, it is done whatever the disk has: it is to be found out. By itself only where the
    disk's own machine has it on: one without may well have a kernel that nobody signed.
    """
    if firmware != "uefi":
        return False
    return order.secure if order.secure is not None else signed and order.secure_here


def _notes(error: BaseException) -> str:
    return " ".join(getattr(error, "__notes__", []))


def _screenshot(guest: Guest, path: Path | None) -> Path | None:
    if path is None or not guest.is_on:
        return None
    try:
        return guest.screendump(path)
    except Gone:
        return None  # it switched itself off at this moment


class _Watch:
    """Listens to a guest until it is clear how it ends."""

    def __init__(
        self,
        guest: Guest,
        report_file: Path,
        order: Order,
        nonce: str,
        begun: float,
        note: Callable[[str], None],
    ) -> None:
        self._guest = guest
        self._given = bool(order.check)
        self._file = report_file
        self._nonce = nonce
        self._begun = begun
        self._note = note
        self._told: set[str] = set()
        self.listener = Listener()
        self.report: Report | None = None

    def until(self, deadline: float) -> Ending:
        while True:
            now = time.monotonic()
            ending = self._look(now - self._begun)
            if ending is not None:
                return ending
            if now > deadline:
                return Ending(Verdict.SILENT, self._last_stage())

    def _look(self, now: float) -> Ending | None:
        try:
            heard = self._guest.console.read_nonblocking(1 << 16, 0.25)
        except TIMEOUT:
            heard = ""
        except EOF:
            return self._reported() or Ending(Verdict.ENDED, "the machine switched itself off")
        # The report first: a system that is up may well log the words of a sign.
        ending = self._reported() or self.listener.hear(heard, now)
        for stage, at in self.listener.stages.items():
            if stage not in self._told:
                self._told.add(stage)
                self._note(f"  {at:5.1f} s  {_STAGE_WORDS[stage]}")
        login = self.listener.stages.get("login", now)
        if ending is None and now - login > max(_LOGIN_GRACE, login):
            if self._given:
                return Ending(Verdict.CHECK_FAILED, NOT_CHECKED)
            return Ending(
                Verdict.BOOTED, "a login prompt is there (the system has no dpsr to say more)"
            )
        if ending is None and self._resets() > _MAX_RESETS:
            return Ending(Verdict.ENDED, "the machine resets itself again and again")
        return ending

    def _reported(self) -> Ending | None:
        if self.report is None and self._file.exists():
            self.report = read_report(self._file.read_bytes(), self._nonce)
        return self.report.ending(given=self._given) if self.report else None

    def _resets(self) -> int:
        with suppress(Gone):  # it has just ended: what its console says comes next, then its end
            self._guest.monitor.poll()
        return sum(event["event"] == "RESET" for event in self._guest.monitor.events)

    def _last_stage(self) -> str:
        stages = self.listener.stages
        last = max(stages, key=lambda stage: stages[stage]) if stages else None
        if last is None:
            return "nothing was heard on its serial console"
        return f"the last that was heard: {_STAGE_WORDS[last]}, at {stages[last]:.0f} s"
