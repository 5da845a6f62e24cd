# SPDX-License-Identifier: GPL-3.0-or-later
"""What the firmware is told through its variables."""

from pathlib import Path

import pytest

from recovery import firmware

GLOBAL = "8be4df61-93ca-11d2-aa0d-00e098032b8c"


@pytest.fixture
def variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(firmware, "is_uefi", lambda: True)
    monkeypatch.setattr(firmware, "_variables", lambda: tmp_path)
    return tmp_path


def test_the_next_start_is_where_this_one_was(variables: Path) -> None:
    (variables / f"BootCurrent-{GLOBAL}").write_bytes(b"\6\0\0\0\4\0")
    firmware.start_here_again()
    assert (variables / f"BootNext-{GLOBAL}").read_bytes() == b"\7\0\0\0\4\0"


def test_bios_needs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(firmware, "is_uefi", lambda: False)
    firmware.start_here_again()
    assert not firmware.can_set_up()


@pytest.mark.parametrize(("supported", "can"), [(1, True), (3, True), (2, False), (None, False)])
def test_the_setup_is_offered_where_there_is_one(
    variables: Path, supported: int | None, can: bool
) -> None:
    if supported is not None:
        value = b"\6\0\0\0" + supported.to_bytes(8, "little")
        (variables / f"OsIndicationsSupported-{GLOBAL}").write_bytes(value)
    assert firmware.can_set_up() == can


@pytest.mark.parametrize(("before", "after"), [(None, 1), (4, 5)])
def test_what_else_is_asked_of_the_firmware_stays(
    variables: Path, before: int | None, after: int
) -> None:
    path = variables / f"OsIndications-{GLOBAL}"
    if before is not None:
        path.write_bytes(b"\7\0\0\0" + before.to_bytes(8, "little"))
    firmware.set_up_next()
    assert path.read_bytes() == b"\7\0\0\0" + after.to_bytes(8, "little")
