# SPDX-License-Identifier: GPL-3.0-or-later
"""GRUB's own parser takes every script that is written: a syntax error discards a function."""

import pytest

from core.run import run
from grub.clone import stub
from grub.menu import MenuFacts, render

GUID = "6d7c1c4e-0000-4000-8000-00000000d150"


@pytest.mark.parametrize(
    ("host", "serial"),
    [
        ("web01", "S3X-1234567"),
        ("", ""),
        ('it\'s "$root" `x` \\ {;|} ü\n€ # no', "a'b;{}\"$(x)\\"),
        ("x" * 300, "y" * 300),
    ],
)
def test_grub_parses_the_menu(host: str, serial: str) -> None:
    for name, content in render(MenuFacts(host, serial, GUID)).items():
        if name.endswith(".cfg"):
            run("grub-script-check", "--verbose", given=content)


def test_grub_parses_the_stub_of_a_clone() -> None:
    run("grub-script-check", given=stub("1234-ABCD", "/boot/grub").encode())
