# SPDX-License-Identifier: GPL-3.0-or-later
"""Every verdict has its exit code."""

from pathlib import Path

from dpsr.ci import _FAILURES, _failure, _good_news
from images.drill import Outcome
from images.signs import Verdict


def test_each_verdict_that_does_not_pass_has_an_exit_code_of_its_own() -> None:
    assert set(_FAILURES) == {str(verdict) for verdict in Verdict} - {"booted"}
    codes = [error.exit_code for error in _FAILURES.values()]
    assert len(set(codes)) == len(codes)
    assert all(80 < code < 90 for code in codes)


def test_a_failure_says_where_to_look() -> None:
    shot = Path("s.png")
    says = "nothing to start from"
    outcome = Outcome(Verdict.NO_LOADER, says, 9.6, "bios", accelerated=False, screenshot=shot)
    error = _failure(outcome, Path("/x/copy.raw"), Path("/c.log"))
    assert str(error).startswith("copy.raw did not pass: nothing to start from (no-loader, ")
    assert error.hint == "Console: /c.log; screen: s.png."


def test_success_names_the_generation() -> None:
    outcome = Outcome(
        Verdict.BOOTED, "the system is up", 50, "uefi", accelerated=True, generation=4
    )
    assert _good_news(outcome, Path("d.raw")).startswith("Passed: generation 4 of d.raw boots")
