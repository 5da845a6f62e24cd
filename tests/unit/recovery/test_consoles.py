# SPDX-License-Identifier: GPL-3.0-or-later
"""What the rescue system says fits a screen."""

import pytest

from recovery import handover, older, unattended
from recovery.consoles import wrapped


def test_lines_are_broken_between_words() -> None:
    text = wrapped("word " * 40 + "\nThe end.", "*** ", "    ")
    lines = text.split("\n")
    assert all(len(line) <= 78 for line in lines)
    assert lines[0].startswith("*** word")
    assert lines[1].startswith("    word")
    assert lines[-1] == "    The end."


@pytest.mark.parametrize("module", [handover, older, unattended])
def test_every_sentence_fits(module: object) -> None:
    texts = [text for name, text in vars(module).items() if name.isupper() and type(text) is str]
    assert len(texts) >= 2
    for text in texts:
        for line in wrapped(text, "*** ", "    ").split("\n"):
            assert len(line) <= 80
