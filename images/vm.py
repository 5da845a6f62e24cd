# SPDX-License-Identifier: GPL-3.0-or-later
"""QEMU's arguments for a virtual machine. Pure: values in, words out."""

from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

MIB: Final = 1024 * 1024

Firmware = Literal["uefi", "bios"]
Bus = Literal["virtio", "scsi", "nvme", "sata"]
BUSES: Final[dict[str, Bus]] = {bus: bus for bus in get_args(Bus)}
"""By their names, for what comes as text."""
Cache = Literal["unsafe", "writeback", "none"]

OVMF_CODE: Final = Path("/usr/share/OVMF/OVMF_CODE_4M.fd")
OVMF_VARS: Final = Path("/usr/share/OVMF/OVMF_VARS_4M.fd")
SECURE_CODE: Final = Path("/usr/share/OVMF/OVMF_CODE_4M.secboot.fd")
SECURE_VARS: Final = Path("/usr/share/OVMF/OVMF_VARS_4M.ms.fd")
"""With Secure Boot, and with the keys of Microsoft enrolled, as machines are sold."""

PORTS: Final = 8
"""Hot-plug ports (PCI Express root ports) of each machine; a disk takes one, the rest stay free."""

AGENT_PORT: Final = "org.qemu.guest_agent.0"
DRILL_PORT: Final = "org.dpsr.drill"
MAX_CHECK: Final = 16 * 1024
"""Bytes of a check: it comes by a table of at most 64 KiB."""


@dataclass(frozen=True, slots=True)
class DiskSpec:
    """One disk of a guest.

    With `overlay` the guest writes to a throw-away overlay and `path` stays as it is. `format`
    None: by the file's own magic number. `cache`: `unsafe` is fastest and right for everything
    but a QEMU that is killed, since then only `writeback` keeps what the guest flushed.
    """

    path: Path
    bus: Bus = "virtio"
    serial: str = "DISK"
    overlay: bool = True
    bootindex: int | None = None
    format: Literal["qcow2", "raw"] | None = None
    cache: Cache = "unsafe"


@dataclass(frozen=True, slots=True)
class Drive:
    """A disk as QEMU gets it: the file that is written, its format, its place in the machine."""

    name: str
    file: Path
    format: Literal["qcow2", "raw"]
    spec: DiskSpec
    port: int
    """Index of the root port; of the SATA connector where the bus is `sata`."""


@dataclass(frozen=True, slots=True)
class Wires:
    """Descriptors of connected sockets that QEMU inherits; None leaves that device out."""

    monitor: int
    console: int
    agent: int | None = None


@dataclass(frozen=True, slots=True)
class DirectKernel:
    """A kernel that QEMU loads by itself, without any boot loader."""

    kernel: Path
    initrd: Path | None
    command_line: str


@dataclass(frozen=True, slots=True)
class Drilled:
    """What makes a guest that of a drill."""

    nonce: str
    report: Path
    """The file that its report goes to."""
    check: bytes = b""
    """A script that is to run in it once it is up; at most MAX_CHECK bytes."""


@dataclass(frozen=True, slots=True)
class Machine:
    """A virtual machine."""

    drives: tuple[Drive, ...]
    firmware: Firmware
    accel: tuple[str, ...]
    """Arguments that choose the accelerator and the processor, from `images.accel`."""
    wires: Wires
    vars: Path | None = None
    """The firmware's variables (qcow2); needed for `uefi`."""
    memory_mib: int = 1024
    cpus: int = 2
    direct: DirectKernel | None = None
    secure: bool = False
    """UEFI with Secure Boot on; what is enrolled is up to `vars`."""
    load: str | None = None
    """Tag of an internal snapshot to start from."""
    drill: Drilled | None = None
    extra: tuple[str, ...] = ()


def comma(value: Path | str) -> str:
    """QEMU separates options by commas; one inside a value is doubled."""
    return str(value).replace(",", ",,")


def backend(drive: Drive) -> str:
    """The value of `-drive`, which is also that of the monitor's `drive_add`."""
    return (
        f"if=none,id={drive.name}-file,file={comma(drive.file)},format={drive.format},"
        f"cache={drive.spec.cache},discard=unmap,detect-zeroes=unmap"
    )


def devices(drive: Drive) -> tuple[dict[str, str | int], ...]:
    """The devices of a disk, in the order of plugging in, as the monitor's `device_add` takes them.

    Each SCSI disk has a controller of its own: OVMF sees only the first disk of a virtio-scsi
    controller unless each has a bootindex.
    """
    spec = drive.spec
    port = f"port{drive.port}"
    common: dict[str, str | int] = {
        "id": drive.name,
        "drive": f"{drive.name}-file",
        "serial": spec.serial,
    }
    if spec.bootindex is not None:
        common["bootindex"] = spec.bootindex
    match spec.bus:
        case "virtio":
            return ({"driver": "virtio-blk-pci", "bus": port, **common},)
        case "nvme":
            return ({"driver": "nvme", "bus": port, **common},)
        case "scsi":
            controller: dict[str, str | int] = {
                "driver": "virtio-scsi-pci", "bus": port, "id": f"{drive.name}-bus",
            }  # fmt: skip
            return (controller, {"driver": "scsi-hd", "bus": f"{drive.name}-bus.0", **common})
        case "sata":
            return ({"driver": "ide-hd", "bus": f"ide.{drive.port}", **common},)


def arguments(machine: Machine) -> tuple[str, ...]:
    """QEMU's command line, program name first."""
    # Without graphics, SeaBIOS copies what it and a boot loader show to the serial line. Not in
    # other guests: a GRUB that uses the serial line itself would be heard twice.
    q35 = "q35,graphics=off" if machine.drill is not None and machine.firmware == "bios" else "q35"
    if machine.secure:
        q35 += ",smm=on"  # the variables are written in system management mode only
    argv = [
        "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none",
        "-machine", q35, *machine.accel,
        "-m", f"{machine.memory_mib}M", "-smp", str(machine.cpus),
        "-nic", "none", "-vga", "std", "-rtc", "base=utc",
        "-chardev", f"socket,id=monitor,fd={machine.wires.monitor}",
        "-mon", "chardev=monitor,mode=control",
        "-chardev", f"socket,id=console,fd={machine.wires.console}", "-serial", "chardev:console",
        "-device", "virtio-rng-pci",
    ]  # fmt: skip
    for port in range(PORTS):
        argv += ["-device", f"pcie-root-port,id=port{port},chassis={port + 1},slot={port + 1}"]
    if machine.wires.agent is not None or machine.drill is not None:
        argv += ["-device", "virtio-serial-pci"]
    if machine.wires.agent is not None:
        argv += [
            "-chardev", f"socket,id=agent,fd={machine.wires.agent}",
            "-device", f"virtserialport,chardev=agent,name={AGENT_PORT}",
        ]  # fmt: skip
    if machine.drill is not None:
        told = machine.drill
        argv += [
            "-chardev", f"file,id=drill,path={comma(told.report)}",
            "-device", f"virtserialport,chardev=drill,name={DRILL_PORT}",
            "-smbios", f"type=11,value=io.systemd.credential:dpsr.drill={told.nonce}",
            "-smbios", "type=1,family=dpsr-drill",
        ]  # fmt: skip
        if told.check:
            script = b64encode(told.check).decode()
            argv += [
                "-smbios",
                f"type=11,value=io.systemd.credential.binary:dpsr.drill.check={script}",
            ]
    if machine.firmware == "uefi":
        if machine.vars is None:
            raise ValueError("uefi needs a file of firmware variables")
        code = OVMF_CODE
        if machine.secure:
            code = SECURE_CODE
            argv += ["-global", "driver=cfi.pflash01,property=secure,value=on"]
        argv += [
            "-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={code}",
            "-drive", f"if=pflash,unit=1,format=qcow2,file={comma(machine.vars)}",
        ]  # fmt: skip
    for drive in machine.drives:
        argv += ["-drive", backend(drive)]
        for device in devices(drive):
            argv += ["-device", ",".join(_option(name, value) for name, value in device.items())]
    if machine.direct is not None:
        argv += ["-kernel", str(machine.direct.kernel), "-append", machine.direct.command_line]
        if machine.direct.initrd is not None:
            argv += ["-initrd", str(machine.direct.initrd)]
    if machine.load is not None:
        argv += ["-loadvm", machine.load]
    return (*argv, *machine.extra)


def _option(name: str, value: str | int) -> str:
    return str(value) if name == "driver" else f"{name}={comma(str(value))}"
