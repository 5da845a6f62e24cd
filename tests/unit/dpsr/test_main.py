# SPDX-License-Identifier: GPL-3.0-or-later
"""However a command ends, there is a sentence and the promised exit code."""

import json
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from types import ModuleType
from typing import Any

import pytest

from builder.plan.identity import Fresh
from builder.plan.layout import make_plan
from builder.plan.wish import Wish
from core.errors import CommandFailed, NoSuchDisk, NotConfirmed, WrongSerialTyped
from core.model.copy import Plan
from core.signals import Ended
from dpsr import app, installer, main
from tests.support.machines import blank, fstab, machine, primary


def ends(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str,
    raising: BaseException | None = None,
) -> tuple[int, str, str]:  # fmt: skip
    """Run `dpsr WORDS`; with `raising`, its command raises that."""
    monkeypatch.setattr(sys, "argv", ["dpsr", *words])
    if raising is not None:

        def run(_words: Sequence[str]) -> None:
            raise raising

        monkeypatch.setattr(main, "run", run)
    with pytest.raises(SystemExit) as caught:
        main.main()
    out, err = capsys.readouterr()
    assert isinstance(caught.value.code, int)
    return caught.value.code, out, err


def test_an_error_is_a_sentence_a_hint_and_a_number(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = ends(monkeypatch, capsys, raising=NoSuchDisk("sdx"))
    assert (code, out) == (12, "")
    assert err.splitlines() == [
        "dpsr: No disk of this machine is called sdx. Nothing was written.", NoSuchDisk.hint,
    ]  # fmt: skip


def test_what_the_disk_holds_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = CommandFailed("mkfs /dev/sdb2", 1, "no")
    error.disk_holds = "The DPSR disk holds no copy yet."
    code, _, err = ends(monkeypatch, capsys, raising=error)
    assert code == 51
    assert err.splitlines()[1] == "The DPSR disk holds no copy yet."


def test_with_json_progress_the_error_is_an_event_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (["prepare", "x", "--progress", "json"], ["prepare", "x", "--progress=json"]):
        _, _, err = ends(monkeypatch, capsys, *words, raising=NoSuchDisk("sdx"))
        event = json.loads(err)
        assert (event["event"], event["exit_code"]) == ("error", 12)
        assert event["hint"] == NoSuchDisk.hint


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)]
)
def test_an_interruption_has_its_number(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int, code: int
) -> None:
    found, _, err = ends(monkeypatch, capsys, raising=Ended(number))
    assert (found, err) == (code, "dpsr: Interrupted.\n")


def test_a_fault_of_ours_frightens_nobody_but_is_on_record(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []
    log = ModuleType("syslog")
    log.LOG_PID = log.LOG_ERR = 3  # type: ignore[attr-defined]
    log.openlog = lambda *_: None  # type: ignore[attr-defined]
    log.syslog = lambda _, line: said.append(line)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "syslog", log)
    code, _, err = ends(monkeypatch, capsys, raising=KeyError("volume"))
    assert code == 1
    assert "KeyError: 'volume'" in err
    assert "Traceback" not in err
    assert "journalctl" in err
    assert "Traceback (most recent call last):" in said
    _, _, err = ends(monkeypatch, capsys, "--debug", raising=KeyError("volume"))
    assert "Traceback" in err


def test_wrong_usage_ends_with_two(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (
        ["nonsense"], ["plan"], ["plan", "x", "--nonsense"], ["prepare", "x", "--progress", "loud"],
        ["plan", "x", "--name", "a/b"],
    ):  # fmt: skip
        code, out, err = ends(monkeypatch, capsys, *words)
        assert (code, out) == (2, ""), words
        assert "Usage: dpsr" in err


def test_prepare_needs_root_before_anything_else(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    for command in ("prepare", "fixup"):
        code, _, err = ends(monkeypatch, capsys, command, "SER")
        assert code == 11
        assert f"dpsr {command} must be run as root" in err


def test_every_command_has_help_with_an_example(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [command.name or command.callback.__name__ for command in commands()]
    assert {"disks", "plan", "prepare", "fixup", "status", "drill"} <= set(names)
    for name in names:
        code, out, _ = ends(monkeypatch, capsys, name, "--help")
        assert code == 0
        assert f"Example: dpsr {name}" in " ".join(out.split()), name


def commands() -> list[Any]:
    return list(app.application().registered_commands)


def test_help_lists_every_command_once_under_its_user(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = ends(monkeypatch, capsys, "--help")
    assert code == 0
    assert "For the installer:" in out
    assert "More:" not in out, "a new command belongs to somebody: dpsr/app.py, _GROUPS"
    for command in commands():
        name = command.callback.__name__
        assert sum(line.startswith(f"  {name} ") for line in out.splitlines()) == (
            0 if command.hidden else 1
        ), name


def test_the_version_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = ends(monkeypatch, capsys, "--version")
    assert code == 0
    assert out.startswith("dpsr 0.")


# The confirmation


class Terminal:
    """A standard input on which somebody types `line`."""

    def __init__(self, line: str, *, somebody: bool = True) -> None:
        self._line = line
        self._somebody = somebody

    def isatty(self) -> bool:
        return self._somebody

    def readline(self) -> str:
        return self._line


@pytest.fixture
def a_plan() -> Plan:
    system = machine(primary(), blank())
    target = system.disks[1]
    return make_plan(system, target, Wish(), fstab(system), Fresh(Random(1).randbytes))


Confirm = Callable[[str], None]


@pytest.fixture
def confirm(monkeypatch: pytest.MonkeyPatch, a_plan: Plan) -> Confirm:
    def typing(line: str) -> None:
        monkeypatch.setattr(sys, "stdin", Terminal(line))
        installer._confirmation(yes=False, quiet=False)(a_plan)

    return typing


def test_the_right_serial_goes_on(confirm: Confirm, capsys: pytest.CaptureFixture[str]) -> None:
    confirm("SER-sdb\n")
    out, err = capsys.readouterr()
    assert out == ""
    assert "dpsr-slot-root" in err
    assert err.endswith("To go on, type its serial number: ")


def test_another_serial_is_refused(confirm: Confirm) -> None:
    with pytest.raises(WrongSerialTyped, match="SER-sdb"):
        confirm("SER-sda\n")


@pytest.mark.parametrize("line", ["", "\n", "  \n"])
def test_no_answer_is_no(confirm: Confirm, line: str) -> None:
    with pytest.raises(NotConfirmed):
        confirm(line)


def test_nobody_there_is_no(monkeypatch: pytest.MonkeyPatch, a_plan: Plan) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal("SER-sdb\n", somebody=False))
    with pytest.raises(NotConfirmed):
        installer._confirmation(yes=False, quiet=False)(a_plan)


def test_yes_asks_nobody_and_json_shows_nothing(
    monkeypatch: pytest.MonkeyPatch, a_plan: Plan, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal("", somebody=False))
    installer._confirmation(yes=True, quiet=False)(a_plan)
    assert "dpsr-slot-root" in capsys.readouterr().err
    installer._confirmation(yes=True, quiet=True)(a_plan)
    assert capsys.readouterr().err == ""


def test_a_disk_without_serial_is_confirmed_by_its_wwn(
    monkeypatch: pytest.MonkeyPatch, a_plan: Plan
) -> None:
    planned = replace(a_plan, serial="")
    monkeypatch.setattr(sys, "stdin", Terminal(f"{a_plan.wwn}\n"))
    installer._confirmation(yes=False, quiet=False)(planned)
