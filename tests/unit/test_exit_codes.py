# SPDX-License-Identifier: GPL-3.0-or-later
"""Exit codes are a promise: unique, in the range of their kind, listed in the README."""

import ast
import inspect
import re
from pathlib import Path

import pytest

from core.errors import DrillFailed, Refused, StepFailed, ToolError, all_errors

ROOT = Path(__file__).resolve().parents[2]
RANGES: dict[type, range] = {
    Refused: range(10, 50),
    StepFailed: range(50, 70),
    DrillFailed: range(80, 90),
}
ATTENTION = range(70, 80)
FIXED = {0, 1, 2, 130, 143}
ERRORS = list(all_errors())
ROW = re.compile(r"^\| (\d+) \| (?:`(\w+)` )?(.+) \|$", re.MULTILINE)


def listed() -> list[tuple[int, str, str]]:
    """The rows of the README's table: number, class (or nothing), words."""
    table = (ROOT / "README.md").read_text().partition("## Exit codes")[2].partition("\n## ")[0]
    return [(int(number), name, words) for number, name, words in ROW.findall(table)]


def sentence(error: type[ToolError]) -> str:
    """The first paragraph of the class's docstring, on one line."""
    return " ".join((inspect.getdoc(error) or "").partition("\n\n")[0].split())


def test_each_error_has_a_number_of_its_own() -> None:
    numbers = [error.exit_code for error in ERRORS]
    assert len(numbers) == len(set(numbers)), sorted(numbers)
    assert not FIXED & set(numbers)
    assert ToolError.exit_code == 1


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_the_number_says_what_was_written(error: type[ToolError]) -> None:
    family = next((RANGES[base] for base in error.__mro__ if base in RANGES), ATTENTION)
    assert error.exit_code in family


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_each_error_has_a_sentence_and_a_hint(error: type[ToolError]) -> None:
    assert sentence(error).endswith(".")
    if not error.__subclasses__() and error.__init__ is ToolError.__init__:
        assert error.hint != ToolError.hint, "what should the person do next?"


def test_the_readme_lists_each() -> None:
    wanted = [(error.exit_code, error.__name__, sentence(error)) for error in ERRORS]
    wanted.sort()
    rows = "\n".join(f"| {number} | `{name}` {words} |" for number, name, words in wanted)
    assert [row for row in listed() if row[1]] == wanted, f"the table should read:\n{rows}"
    assert {number for number, name, _ in listed() if not name} == FIXED


def test_no_error_is_defined_elsewhere() -> None:
    """Whoever adds a number in another room must be seen by the tests above."""
    names = {error.__name__ for error in ERRORS} | {"ToolError"}
    for room in ("core", "grub", "images", "builder", "recovery", "dpsr"):
        for path in (ROOT / room).rglob("*.py"):
            if path.parent == ROOT / "core" / "errors":
                continue
            tree = ast.parse(path.read_bytes())
            for node in (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)):
                bases = {ast.unparse(base) for base in node.bases}
                assert not bases & names, f"{path}:{node.lineno} belongs into core/errors"
