# SPDX-License-Identifier: GPL-3.0-or-later
"""What `dpsr verify` says: which file, what was done, what helps."""

import json
from dataclasses import replace

from builder.check.sums import BOOT_SECTOR
from builder.verify import Damage, Report
from dpsr.verified import as_data, as_text, trouble

GOOD = Report(7, "2026-11-28T02:00:00+00:00", 5 << 30, (), (), (), ())
FILE = Damage("root", "/", "/srv/a", (4096, 8192), 1, 0, "`dpsr update --full` brings it again")


def said(report: Report, *, repair: bool = False) -> str:
    found = trouble(report, repair=repair)
    assert found is not None
    assert found.exit_code == 74
    return f"{found} {found.hint}"


def test_good() -> None:
    assert trouble(GOOD, repair=False) is None
    assert as_text(GOOD) == "All 5.0 GiB of generation 7 are as they were written.\n"
    assert as_data(GOOD)["good"]


def test_what_could_not_be_verified_is_said_and_no_damage() -> None:
    report = replace(GOOD, notes=("There are no digests of /home yet.",))
    assert trouble(report, repair=False) is None
    assert as_text(report).startswith("There are no digests of /home yet.\n")


def test_a_damaged_file() -> None:
    report = replace(GOOD, damages=(FILE,))
    assert as_text(report) == (
        "/srv/a (root): 2 blocks damaged, 1 of them unreadable; "
        "`dpsr update --full` brings it again\n"
    )
    assert "2 blocks of 1 files or other parts. Nothing was mended." in said(report)
    assert "`dpsr verify --repair` fetches" in said(report)


def test_mended() -> None:
    half, whole = (replace(GOOD, damages=(replace(FILE, mended=number),)) for number in (1, 2))
    assert "1 mended; `dpsr update" in as_text(half)
    assert "1 blocks were mended, 1 were not. What helps is said above." in said(half, repair=True)
    assert as_text(whole) == "/srv/a (root): 2 blocks damaged, 1 of them unreadable, mended\n"
    assert "All blocks were mended. Look at `smartctl" in said(whole, repair=True)


def test_vault_and_control_partition() -> None:
    report = replace(GOOD, vault=("The undo log x is damaged.",), control=(BOOT_SECTOR, "EFI/x"))
    text = as_text(report)
    assert "The undo log x is damaged.\nthe boot sector on the control partition is" in text
    assert "1 things in the vault, 2 files on the control partition." in said(report)
    assert "dpsr fixup" in said(report)


def test_programs_get_all_of_it() -> None:
    document = json.loads(json.dumps(as_data(replace(GOOD, damages=(FILE,)))))
    assert document["damaged"] == [
        {
            "slot": "root", "mountpoint": "/", "what": "/srv/a", "offsets": [4096, 8192],
            "unreadable_blocks": 1, "mended_blocks": 0, "remedy": FILE.remedy,
        }
    ]  # fmt: skip
    assert (document["damaged_blocks"], document["mended_blocks"]) == (2, 0)
