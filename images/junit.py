# SPDX-License-Identifier: GPL-3.0-or-later
"""A drill's outcome as JUnit XML, which CI systems show as a test. Pure."""

import re
import xml.etree.ElementTree as ET
from typing import Final

from images.drill import Outcome

_FORBIDDEN: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""XML 1.0 has no way to write these, not even escaped."""


def junit(outcome: Outcome, image: str) -> str:
    """One suite with one case; its output is the end of the console."""
    failures = str(int(not outcome.passed))
    seconds = f"{outcome.seconds:.3f}"
    suite = ET.Element(
        "testsuite",
        name="dpsr drill",
        tests="1",
        failures=failures,
        errors="0",
        skipped="0",
        time=seconds,
    )
    case = ET.SubElement(
        suite,
        "testcase",
        classname=f"dpsr.drill.{outcome.firmware}",
        name=_clean(image),
        time=seconds,
    )
    if not outcome.passed:
        failure = ET.SubElement(
            case, "failure", type=str(outcome.verdict), message=_clean(outcome.says)
        )
        failure.text = _clean(outcome.says)
    ET.SubElement(case, "system-out").text = _clean(outcome.console)
    root = ET.Element("testsuites")
    root.append(suite)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("?", text)
