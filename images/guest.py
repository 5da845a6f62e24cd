# SPDX-License-Identifier: GPL-3.0-or-later
"""A virtual machine that is switched on, spoken to, and always switched off again."""

import base64
import contextlib
import socket
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from core.errors import ProgramTimeout
from core.run import Process, end, start
from images import accel, cache, disks
from images.console import Console, tail, text_of
from images.job import Job, Result
from images.vm import (
    PORTS,
    DirectKernel,
    DiskSpec,
    Drilled,
    Drive,
    Firmware,
    Machine,
    Wires,
    arguments,
    backend,
    devices,
)
from images.wire import Agent, GuestError, Late, Monitor

_ENVIRONMENT: Final = (
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME=/root", "LC_ALL=C.UTF-8", "TERM=dumb",
)  # fmt: skip


class Guest:
    """A machine in QEMU. `with Guest(...) as guest:` switches it on; leaving switches it off.

    `disks`: in this order on the machine. `vars`: a file of firmware variables (qcow2) that is
    used and changed in place; None gives a machine whose NVRAM is empty. `secure`: with Secure
    Boot, by Microsoft's keys unless `vars` has others. `load`: the internal snapshot to start from.
    `before`: what goes before QEMU's command line. While it is switched off, `disks` may be changed
    for the next `power_on`; overlays live as long as the Guest.
    """

    def __init__(
        self,
        disks: Sequence[DiskSpec] = (),
        firmware: Firmware = "uefi",
        *,
        secure: bool = False,
        memory_mib: int = 1024,
        cpus: int = 2,
        vars: Path | None = None,  # noqa: A002 - what everybody calls them
        direct: DirectKernel | None = None,
        load: str | None = None,
        agent: bool = True,
        drill: Drilled | None = None,
        kernel: Path | None = None,
        extra: Sequence[str] = (),
        before: Sequence[str] = (),
    ) -> None:
        self.disks = list(disks)
        self.firmware = firmware
        self.secure = secure
        self.memory_mib = memory_mib
        self.cpus = cpus
        self.vars = vars
        self.direct = direct
        self.load = load
        self.drill = drill
        self.extra = tuple(extra)
        self.before = tuple(before)
        self._with_agent = agent
        self._kernel = kernel
        self._stack = contextlib.ExitStack()
        self._files: dict[DiskSpec, Path] = {}
        self._drives: dict[str, Drive] = {}
        self._process: Process[bytes] | None = None
        self._monitor: Monitor | None = None
        self._agent: Agent | None = None
        self._console: Console | None = None

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as undo:
            undo.callback(self._stack.close)
            undo.callback(self.pull_power)
            self.folder = self._stack.enter_context(cache.scratch())
            """Throw-away folder of this guest."""
            self.console_log = self.folder / "console.log"
            """Everything that the serial console said since the Guest was made."""
            self.power_on()
            undo.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.pull_power()
            if isinstance(error, Exception):
                error.add_note(f"The guest's console said last:\n{tail(self.console_log)}")
        finally:
            self._stack.close()

    # --- power -----------------------------------------------------------------------------

    @property
    def is_on(self) -> bool:
        """Whether QEMU runs."""
        return self._process is not None and self._process.poll() is None

    def power_on(self) -> None:
        """Switch the machine on."""
        if self.is_on:
            raise GuestError("The machine is on already.")
        self._hang_up()
        if self.firmware == "uefi" and self.vars is None:
            self.vars = disks.new_vars(self.folder / "vars.qcow2", secure=self.secure)
        self._drives = {}
        for spec in self.disks:
            drive = self._drive(spec)
            self._drives[drive.name] = drive
        ours, theirs = zip(*(socket.socketpair() for _ in range(3)), strict=True)
        wires = Wires(
            theirs[0].fileno(), theirs[1].fileno(), theirs[2].fileno() if self._with_agent else None
        )
        machine = Machine(
            drives=tuple(self._drives.values()), firmware=self.firmware,
            accel=accel.accelerator(self._kernel), wires=wires, vars=self.vars,
            memory_mib=self.memory_mib, cpus=self.cpus, direct=self.direct, load=self.load,
            secure=self.secure, drill=self.drill, extra=self.extra,
        )  # fmt: skip
        with open(self.folder / "qemu.log", "ab") as errors:
            # setpriv: should this process be killed, the kernel ends QEMU too.
            self._process = start(
                "setpriv", "--pdeathsig", "KILL", *self.before, *arguments(machine),
                stdout=errors.fileno(), stderr=errors.fileno(),
                pass_fds=[wire.fileno() for wire in theirs],
            )  # fmt: skip
        for wire in theirs:
            wire.close()
        self._console = Console(ours[1], self.console_log)
        try:
            if self._with_agent:
                self._agent = Agent(ours[2])
            else:
                ours[2].close()
            self._monitor = Monitor(ours[0])
        except BaseException as error:
            error.add_note((self.folder / "qemu.log").read_text(errors="replace"))
            self.pull_power()
            raise

    def pull_power(self, *, kill: bool = False) -> None:
        """Cut the power. What the guest had sent to its disks is on them.

        `kill` ends QEMU where it stands: of a disk with `cache="writeback"`, only what the guest
        flushed is then sure to be there.
        """
        if self._process is not None:
            if kill:
                self._process.kill()
            elif self._monitor is not None:
                with contextlib.suppress(GuestError):
                    self._monitor.command("quit")  # it writes what it holds of qcow2, then ends
                    for _ in range(600):
                        if not self.is_on:
                            break
                        time.sleep(0.1)
            end(self._process)
            self._process = None
        self._hang_up()

    def poweroff(self, timeout: float = 120) -> None:
        """Shut the system down and wait until the machine is off. Raises GuestError, Late."""
        try:
            result = self.start("systemctl", "poweroff").wait(10, ok=None)
        except (GuestError, ProgramTimeout):
            pass  # the agent is ended with the rest, often before it can answer
        else:
            if result.status > 0:
                raise GuestError(f"The guest cannot shut down: {result.err.strip()}")
        self.wait_off(timeout)

    def wait_off(self, timeout: float = 120) -> None:
        """Wait until the machine has switched itself off. Raises Late."""
        deadline = time.monotonic() + timeout
        while self.is_on:
            if time.monotonic() > deadline:
                raise Late(f"The guest did not switch itself off within {timeout:g} s.")
            time.sleep(0.1)
        self.pull_power()

    def reset(self) -> None:
        """Press the reset button."""
        self.monitor.command("system_reset")

    def reboot(self, timeout: float = 300) -> str:
        """Let the system reboot, and wait until it is up again; returns the state, as `wait_up`."""
        before = self.get("/proc/sys/kernel/random/boot_id")
        with contextlib.suppress(GuestError):
            self.agent.call("guest-exec", path="systemctl", arg=["reboot"])
        deadline = time.monotonic() + timeout
        while True:
            with contextlib.suppress(GuestError):
                self.agent.sync(5)
                if self.get("/proc/sys/kernel/random/boot_id") != before:
                    return self.wait_up(max(1.0, deadline - time.monotonic()))
            if time.monotonic() > deadline or not self.is_on:
                raise Late(f"The guest did not reboot within {timeout:g} s.")
            time.sleep(0.5)

    # --- the system in it ---------------------------------------------------------------------

    def wait_up(self, timeout: float = 300) -> str:
        """Wait until the system has started; returns `running`, or `degraded`. Raises Late."""
        deadline = time.monotonic() + timeout
        self.agent.sync(timeout)
        job = self.start("systemctl", "is-system-running", "--wait")
        try:
            return job.wait(max(1.0, deadline - time.monotonic()), ok=None).out.strip()
        except ProgramTimeout:
            raise Late(f"The guest was not up within {timeout:g} s.") from None

    def start(self, *argv: str, given: bytes = b"", keep_output: bool = True) -> Job:
        """Start a program in the guest and go on."""
        arguments: dict[str, Any] = {"path": argv[0], "arg": argv[1:], "env": _ENVIRONMENT}
        if given:
            arguments["input_data"] = base64.b64encode(given).decode()
        said = self.agent.call("guest-exec", capture_output=keep_output, **arguments)
        return Job(self.agent, said["pid"], argv)

    def run(
        self, *argv: str, timeout: float = 60, ok: Collection[int] | None = (0,), given: bytes = b""
    ) -> Result:
        """Run a program in the guest to its end; `ok` None takes any exit status.

        Raises ProgramTimeout, CommandFailed; Refusal when there is no such program.
        """
        return self.start(*argv, given=given).wait(timeout, ok)

    def sh(self, script: str, timeout: float = 60, ok: Collection[int] | None = (0,)) -> str:
        """Run a shell script in the guest (`set -eu`), and return what it wrote."""
        return self.run("/bin/sh", "-euc", script, timeout=timeout, ok=ok).out

    def put(self, path: str, data: bytes | str, mode: int | None = None) -> None:
        """Write a file in the guest."""
        self.agent.write(path, data.encode() if isinstance(data, str) else data)
        if mode is not None:
            self.run("chmod", f"{mode:o}", path)

    def get(self, path: str) -> bytes:
        """Read a file of the guest."""
        return self.agent.read(path)

    # --- the machine around it ------------------------------------------------------------------

    @property
    def monitor(self) -> Monitor:
        """QEMU's monitor."""
        if self._monitor is None:
            raise GuestError("The machine is off.")
        return self._monitor

    @property
    def agent(self) -> Agent:
        """The agent in the guest."""
        if self._agent is None:
            raise GuestError("The machine is off, or was made without an agent.")
        return self._agent

    @property
    def console(self) -> Console:
        """The serial console, for pexpect."""
        if self._console is None:
            raise GuestError("The machine is off.")
        return self._console

    @property
    def said(self) -> str:
        """All that the serial console said since the Guest was made, as plain text."""
        return text_of(self.console_log)

    def screendump(self, path: Path) -> Path:
        """Save what the screen shows as a PNG."""
        self.monitor.command("screendump", filename=str(path.resolve()), format="png")
        return path

    def savevm(self, tag: str) -> None:
        """Keep the state of the machine and of its disks (all qcow2, none NVMe) under `tag`."""
        self._snapshot(f"savevm {tag}")

    def loadvm(self, tag: str) -> None:
        """Go back to what `savevm` kept."""
        self._snapshot(f"loadvm {tag}")
        self.agent.sync(30)

    def _snapshot(self, line: str) -> None:
        said = self.monitor.human(line).strip()
        if said:
            raise GuestError(f"QEMU said to {line}: {said}")

    def plug(self, spec: DiskSpec) -> None:
        """Plug a disk in; into a machine that is on, SATA excepted."""
        self.disks.append(spec)
        if not self.is_on:
            return
        drive = self._drive(spec)
        said = self.monitor.human(f"drive_add 0 {backend(drive)}").strip()
        if said != "OK":
            raise GuestError(f"QEMU did not take {spec.path}: {said}")
        for device in devices(drive):
            self.monitor.command("device_add", **device)
        self._drives[drive.name] = drive

    def unplug(self, serial: str, timeout: float = 30) -> None:
        """Pull the disk with this serial number; from a machine that is on, SATA excepted."""
        spec = next(spec for spec in self.disks if spec.serial == serial)
        self.disks.remove(spec)
        if not self.is_on:
            return
        drive = next(d for d in self._drives.values() if d.spec is spec)
        outer = devices(drive)[0]["id"]
        self.monitor.command("device_del", id=outer)
        self.monitor.wait_event("DEVICE_DELETED", timeout, device=outer)
        del self._drives[drive.name]
        self.monitor.human(f"drive_del {drive.name}-file")

    def wait_disk(self, serial: str, timeout: float = 30) -> str:
        """Wait until the guest's kernel knows this disk; returns `/dev/NAME`."""
        script = 'until lsblk -dno NAME,SERIAL | grep -w "$1"; do sleep 0.1; done'
        said = self.run("/bin/sh", "-c", script, "sh", serial, timeout=timeout).out
        return f"/dev/{said.split()[0]}"

    def file_of(self, serial: str) -> Path:
        """The file that the guest's writes to this disk go to: its overlay, or the disk."""
        return next(self._file(spec) for spec in self.disks if spec.serial == serial)

    def _drive(self, spec: DiskSpec) -> Drive:
        taken = {
            d.port for d in self._drives.values() if (d.spec.bus == "sata") == (spec.bus == "sata")
        }
        port = next(n for n in range(PORTS if spec.bus != "sata" else 6) if n not in taken)
        file = self._file(spec)
        name = f"disk-{'s' if spec.bus == 'sata' else ''}{port}"
        return Drive(
            name,
            file,
            disks.image_format(file) if spec.overlay or spec.format is None else spec.format,
            spec,
            port,
        )

    def _file(self, spec: DiskSpec) -> Path:
        if not spec.overlay:
            return spec.path
        if spec not in self._files:
            path = self.folder / f"overlay-{len(self._files)}.qcow2"
            self._files[spec] = disks.new_overlay(path, spec.path)
        return self._files[spec]

    def _hang_up(self) -> None:
        for wire in (self._monitor, self._agent, self._console):
            if wire is not None:
                wire.close()
        self._monitor = self._agent = self._console = None
