# SPDX-License-Identifier: GPL-3.0-or-later
"""QEMU's command line."""

from base64 import b64decode
from itertools import pairwise
from pathlib import Path

import pytest

from images.vm import (
    SECURE_CODE,
    Bus,
    DirectKernel,
    DiskSpec,
    Drilled,
    Drive,
    Machine,
    Wires,
    arguments,
    backend,
    devices,
)


def drive(bus: Bus = "virtio", port: int = 0, path: str = "/images/a.qcow2") -> Drive:
    spec = DiskSpec(Path(path), bus, "SERIAL7")
    return Drive(f"disk-{port}", spec.path, "qcow2", spec, port)


def machine(**changes: object) -> Machine:
    values: dict[str, object] = {
        "drives": (drive(),), "firmware": "bios", "accel": ("-accel", "tcg"),
        "wires": Wires(3, 4, 5),
    }  # fmt: skip
    return Machine(**(values | changes))  # type: ignore[arg-type]


def value(argv: tuple[str, ...], option: str, beginning: str = "") -> str:
    found = [b for a, b in pairwise(argv) if a == option and b.startswith(beginning)]
    assert len(found) == 1, f"{option} {beginning}*: {found}"
    return found[0]


def test_a_guest_has_no_network() -> None:
    argv = arguments(machine())
    assert value(argv, "-nic") == "none"
    assert not [word for word in argv if "netdev" in word or "user,id" in word]


def test_nothing_of_qemus_own_configuration_gets_in() -> None:
    assert {"-nodefaults", "-no-user-config"} <= set(arguments(machine()))


@pytest.mark.parametrize(
    ("bus", "drivers"),
    [
        ("virtio", ["virtio-blk-pci"]),
        ("nvme", ["nvme"]),
        ("scsi", ["virtio-scsi-pci", "scsi-hd"]),
        ("sata", ["ide-hd"]),
    ],
)
def test_each_bus_has_its_devices_and_the_serial_number(bus: Bus, drivers: list[str]) -> None:
    made = devices(drive(bus))
    assert [device["driver"] for device in made] == drivers
    assert made[-1]["serial"] == "SERIAL7"
    assert made[-1]["drive"] == "disk-0-file"


def test_two_scsi_disks_have_two_controllers() -> None:
    argv = arguments(machine(drives=(drive("scsi", 0), drive("scsi", 1))))
    controllers = [word for word in argv if word.startswith("virtio-scsi-pci")]
    assert len(set(controllers)) == 2
    assert "bus=disk-1-bus.0" in value(argv, "-device", "scsi-hd,bus=disk-1")


def test_bootindex_is_given_only_when_asked_for() -> None:
    spec = DiskSpec(Path("/a"), bootindex=3)
    assert devices(Drive("disk-0", spec.path, "raw", spec, 0))[0]["bootindex"] == 3
    assert "bootindex" not in devices(drive())[0]


def test_a_comma_in_a_path_stays_in_the_path() -> None:
    assert "file=/a,,b.qcow2," in backend(drive(path="/a,b.qcow2"))


def test_uefi_needs_variables_and_never_writes_the_code() -> None:
    with pytest.raises(ValueError, match="variables"):
        arguments(machine(firmware="uefi"))
    argv = arguments(machine(firmware="uefi", vars=Path("/v.qcow2")))
    assert "readonly=on" in value(argv, "-drive", "if=pflash,unit=0")
    assert "file=/v.qcow2" in value(argv, "-drive", "if=pflash,unit=1")


def test_bios_has_no_flash() -> None:
    assert not [word for word in arguments(machine()) if "pflash" in word]


def test_secure_boot_has_its_own_firmware_and_needs_smm() -> None:
    argv = arguments(machine(firmware="uefi", secure=True, vars=Path("/v.qcow2")))
    assert value(argv, "-machine") == "q35,smm=on"
    assert value(argv, "-global").endswith("secure,value=on")
    assert value(argv, "-drive", "if=pflash,unit=0").endswith(f"file={SECURE_CODE}")
    plain = arguments(machine(firmware="uefi", vars=Path("/v.qcow2")))
    assert value(plain, "-machine") == "q35"
    assert "-global" not in plain


def test_a_check_of_any_bytes_comes_as_a_credential() -> None:
    script = b"#!/bin/sh\n: ', \xff\n"
    argv = arguments(machine(drill=Drilled("N0NCE", Path("/report"), script)))
    found = value(argv, "-smbios", "type=11,value=io.systemd.credential.binary:dpsr.drill.check=")
    assert b64decode(found.partition("check=")[2]) == script
    assert "," not in found.partition("check=")[2]
    assert not [
        word for word in arguments(machine(drill=Drilled("N", Path("/r")))) if "check" in word
    ]


def test_a_drill_gives_nonce_and_port_and_hears_the_firmware() -> None:
    argv = arguments(machine(drill=Drilled("N0NCE", Path("/report"))))
    assert value(argv, "-smbios", "type=11").endswith("credential:dpsr.drill=N0NCE")
    assert value(argv, "-device", "virtserialport,chardev=drill").endswith("name=org.dpsr.drill")
    assert value(argv, "-machine") == "q35,graphics=off"
    assert value(arguments(machine()), "-machine") == "q35"


def test_a_guest_without_agent_has_no_agent_port() -> None:
    argv = arguments(machine(wires=Wires(3, 4)))
    assert not [word for word in argv if "guest_agent" in word]


def test_direct_kernel_and_snapshot() -> None:
    direct = DirectKernel(Path("/k"), Path("/i"), "root=/dev/vda ro")
    argv = arguments(machine(direct=direct, load="up"))
    assert value(argv, "-append") == "root=/dev/vda ro"
    assert value(argv, "-initrd") == "/i"
    assert value(argv, "-loadvm") == "up"
