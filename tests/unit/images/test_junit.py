# SPDX-License-Identifier: GPL-3.0-or-later
"""A drill for CI systems and programs."""

import xml.etree.ElementTree as ET

from images.drill import Outcome
from images.junit import junit
from images.signs import Verdict

FAILED = Outcome(
    Verdict.PANIC,
    "the kernel panicked",
    12.34,
    "bios",
    accelerated=False,
    console="a\x1b[0m <b> & \x00",
)
PASSED = Outcome(Verdict.BOOTED, "the system is up", 50.0, "uefi", accelerated=True, generation=4)


def test_a_failure_is_one_failed_case() -> None:
    suite = ET.fromstring(junit(FAILED, "copy.qcow2"))[0]
    assert (suite.get("tests"), suite.get("failures")) == ("1", "1")
    failure = suite.find("testcase/failure")
    assert failure is not None
    assert failure.get("type") == "panic"


def test_a_success_has_no_failure() -> None:
    suite = ET.fromstring(junit(PASSED, "copy.qcow2"))[0]
    assert suite.get("failures") == "0"
    assert suite.find("testcase/failure") is None


def test_console_output_never_breaks_the_xml() -> None:
    output = ET.fromstring(junit(FAILED, "x"))[0].find("testcase/system-out")
    assert output is not None
    assert output.text == "a?[0m <b> & ?"


def test_the_json_has_what_was_promised() -> None:
    said = PASSED.as_json()
    promised = {"passed", "verdict", "seconds", "firmware", "generation", "screenshot"}
    assert promised <= set(said)
    assert said["passed"] is True
    assert said["verdict"] == "booted"
    assert said["generation"] == 4


def test_only_booted_passes() -> None:
    for verdict in Verdict:
        outcome = Outcome(verdict, "", 1.0, "bios", accelerated=False)
        assert outcome.passed == (verdict is Verdict.BOOTED)
