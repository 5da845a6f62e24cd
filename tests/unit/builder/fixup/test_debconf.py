# SPDX-License-Identifier: GPL-3.0-or-later
"""A GRUB upgrade on the copy touches neither the primary's MBR nor its NVRAM entry."""

import re

import pytest

from builder.fixup.debconf import fix_answers
from tests.support.data import DATA


def _stanzas(text: str) -> dict[str, str]:
    found = {}
    for stanza in text.strip("\n").split("\n\n"):
        found[stanza.split("\n")[0].removeprefix("Name: ")] = stanza
    return found


@pytest.mark.parametrize(("release", "owner"), [(12, "grub-pc"), (13, "grub-efi-amd64")])
def test_real_answers_of_debian(release: int, owner: str) -> None:
    text = (DATA / "debconf" / f"debian{release}.dat").read_text()
    fixed = fix_answers(text, frozenset({owner}))
    assert "PRIMARY1" not in fixed
    before, after = _stanzas(text), _stanzas(fixed)
    assert list(after) == list(before), "the same questions in the same order"
    changed = {name for name in after if after[name] != before[name]}
    if owner == "grub-pc":
        assert changed == {
            "grub-pc/install_devices",
            "grub-pc/install_devices_disks_changed",
            "grub-pc/install_devices_empty",
            "grub2/update_nvram",
        }
        assert "\nValue: true\n" in after["grub-pc/install_devices_empty"]
        assert re.search(r"\nValue: ?\n", after["grub-pc/install_devices"])
    else:
        assert changed == {"grub2/update_nvram"}
        assert "\nValue: false\n" in after["grub2/update_nvram"]
    assert fix_answers(fixed, frozenset({owner})) == fixed


def test_choices_of_the_last_time_go() -> None:
    text = (
        "Name: grub-pc/install_devices\nTemplate: grub-pc/install_devices\n"
        "Value: /dev/disk/by-id/ata-X\nOwners: grub-pc\nFlags: seen\nVariables:\n"
        " CHOICES = /dev/sda (1 MB; X)\n RAW_CHOICES = /dev/disk/by-id/ata-X\n\n"
        "Name: zz/other\nTemplate: zz/other\nOwners: zz\n\n"
    )
    fixed = fix_answers(text, frozenset())
    assert "ata-X" not in fixed
    assert fixed.endswith("Name: zz/other\nTemplate: zz/other\nOwners: zz\n\n")


def test_questions_that_were_never_asked_are_answered() -> None:
    fixed = fix_answers("Name: a/b\nTemplate: a/b\nOwners: a\n\n", frozenset({"grub-efi-amd64"}))
    assert _stanzas(fixed)["grub2/update_nvram"] == (
        "Name: grub2/update_nvram\nTemplate: grub2/update_nvram\nValue: false\n"
        "Owners: grub-efi-amd64\nFlags: seen"
    )


def test_without_grub_nothing_changes() -> None:
    text = "Name: a/b\nTemplate: a/b\nOwners: a\n\n"
    assert fix_answers(text, frozenset()) == text
