# SPDX-License-Identifier: GPL-3.0-or-later
"""The udev rule: what it jumps to, runs and starts is there."""

import os
import re
from pathlib import Path
from typing import Final

PACKAGING: Final = Path(__file__).resolve().parents[2] / "packaging"
RULE: Final = PACKAGING / "udev/59-dpsr.rules"
LINES: Final = [
    line for line in RULE.read_text("utf-8").splitlines() if line and not line.startswith("#")
]
INSTALLED: Final = (PACKAGING / "debian/install").read_text("utf-8").splitlines()
FLAGS: Final = {
    'ENV{UDEV_DISABLE_PERSISTENT_STORAGE_RULES_FLAG}="1"', 'ENV{SYSTEMD_READY}="0"',
    'ENV{UDISKS_IGNORE}="1"', 'OPTIONS:="nowatch"',
}  # fmt: skip


def at(label: str) -> int:
    return LINES.index(f'LABEL="{label}"')


def test_every_jump_leads_forward_to_a_label() -> None:
    jumps = [
        (number, found[1])
        for number, line in enumerate(LINES)
        if (found := re.search(r'GOTO="(\w+)"', line))
    ]
    assert len(jumps) > 5
    assert all(number < at(label) for number, label in jumps)


def test_disk_partition_and_overlay_get_the_same_flags() -> None:
    assert at("dpsr_overlay") < at("dpsr_ignore") < at("dpsr_end")
    assert set(LINES[at("dpsr_ignore") + 1 : at("dpsr_end")]) == FLAGS
    hidden = LINES[: at("dpsr_overlay")]
    assert 'ENV{DEVTYPE}=="partition", IMPORT{parent}="DPSR_HIDDEN"' in hidden
    assert hidden[-1] == 'GOTO="dpsr_ignore"'


def test_nothing_but_the_disk_itself_is_detached_and_never_on_a_copy() -> None:
    (start,) = [line for line in LINES if "RUN+=" in line]
    assert start.startswith('ENV{DEVTYPE}=="disk", ACTION=="add", TEST=="/run/systemd/system",')
    (asks,) = [line for line in LINES if "PROGRAM==" in line]
    assert 'TEST!="/etc/dpsr/copy.json"' in asks


def test_what_it_runs_is_installed_and_can_be_run() -> None:
    (program,) = re.findall(r'PROGRAM=="([\w-]+) %k"', RULE.read_text("utf-8"))
    assert f"packaging/udev/{program} usr/lib/udev" in INSTALLED
    (unit,) = re.findall(r"start ([\w@%.-]+\.service)", RULE.read_text("utf-8"))
    service = PACKAGING / "systemd" / unit.replace("%k", "")
    (runs,) = re.findall(
        r"^ExecStart=/usr/lib/dpsr/([\w-]+) %i$", service.read_text(), re.MULTILINE
    )
    assert f"packaging/{runs} usr/lib/dpsr" in INSTALLED
    assert "packaging/initramfs/dpsr usr/share/initramfs-tools/hooks" in INSTALLED
    for path in (PACKAGING / "udev" / program, PACKAGING / runs, PACKAGING / "initramfs/dpsr"):
        assert os.access(path, os.X_OK), path
