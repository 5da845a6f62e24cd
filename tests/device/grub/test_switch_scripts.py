# SPDX-License-Identifier: GPL-3.0-or-later
"""What `dpsr switch` writes is taken by GRUB's own parser, by sh and by shellcheck."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from core.run import have, run
from grub.guard import PANIC, Facts, script
from grub.primary import SWITCHED, menu
from grub.turn import Turn
from recovery import emit
from tests.support.guard_entry import guard_entry
from tests.support.two_sides import DEBIAN, OURS, SET, SHELL, WISH, firmware

TURNS = [Turn(to, once) for to in ("dpsr", "primary") for once in (False, True)]
FACTS = emit.Facts("it's `a` $(b)", "/dev/disk/by-id/a'b $(c)", 2, datetime(2025, 1, 2, tzinfo=UTC))


def test_grub_parses_the_entries() -> None:
    text = menu([SET, replace(SET, name="night", control_uuid="BBBB-0001")])
    run("grub-script-check", "--verbose", given=text.encode())


@pytest.mark.parametrize("turn", TURNS, ids=str)
def test_shells_parse_what_is_emitted(turn: Turn, tmp_path: Path) -> None:
    nvram = firmware(DEBIAN, ("odd ' \" $(d) `e`", "x"), SHELL, OURS).read()
    scripts = (
        emit.by_firmware(FACTS, turn, nvram, WISH),
        emit.by_menu(FACTS, turn, "dpsr", menu([SET])),
    )
    for text in scripts:
        path = tmp_path / "script"
        path.write_text(text)
        run("sh", "-n", str(path))
        if have("shellcheck"):
            run("shellcheck", "--severity=warning", str(path))


@pytest.mark.parametrize(
    ("given", "timeout"), [("0", "5"), ("-1", "-1"), ("10", "10"), ("odd", "5"), ("", "5")]
)
def test_whoever_wants_the_primary_has_time_to_choose_it(
    given: str, timeout: str, tmp_path: Path
) -> None:
    """As grub-mkconfig sources it."""
    path = tmp_path / "switch.cfg"
    path.write_text(SWITCHED.format(id="dpsr"))
    code = f'set -e; GRUB_TIMEOUT="{given}"; . {path}; echo "$GRUB_DEFAULT $GRUB_TIMEOUT"'
    assert run("sh", "-c", code).split() == ["dpsr", timeout]


@pytest.mark.parametrize("esp", ["", "1A2B-3C4D"])
def test_grub_parses_the_guard(esp: str) -> None:
    text = script(Facts(3, "D0D0-1234", "/boot/grub/dpsr-guard.env", esp))
    run("grub-script-check", "--verbose", given=text.encode())


@pytest.mark.parametrize(
    ("given", "wanted"), [("quiet", "quiet panic=30"), ("quiet panic=5", "quiet panic=5")]
)
def test_a_panic_of_the_users_own_stays(given: str, wanted: str, tmp_path: Path) -> None:
    path = tmp_path / "guard.cfg"
    path.write_text(PANIC)
    code = (
        f'set -e; GRUB_CMDLINE_LINUX="{given}"; GRUB_CMDLINE_LINUX_DEFAULT=; . {path}; '
        'echo "$GRUB_CMDLINE_LINUX"'
    )
    assert run("sh", "-c", code).strip() == wanted


def test_the_guards_entry_is_named_by_its_number(tmp_path: Path) -> None:
    """As Debian's 10_linux writes them: what stands in a submenu does not count."""
    so_far = (
        "menuentry 'Debian' {\n\techo\n}\nsubmenu 'Advanced' {\n\tmenuentry 'x' {\n\techo\n\t}\n}\n"
    )
    added = guard_entry(tmp_path, so_far)
    assert added.startswith("set fallback=2\nmenuentry ")
    run("grub-script-check", "--verbose", given=(so_far + added).encode())
    assert guard_entry(tmp_path, so_far, on=False) == ""
