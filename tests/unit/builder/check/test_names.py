# SPDX-License-Identifier: GPL-3.0-or-later
"""What debugfs prints is read; its prompts, headings and strange names do no harm."""

from builder.check.names import parse_icheck, parse_ncheck, parse_testb

ICHECK = """debugfs: icheck 8 9 1
Block\tInode number
8\t7
9\t12
1\t<block not found>
"""
NCHECK = """debugfs: ncheck 11 12
Inode\tPathname
11\t//lost+found
12\t/srv/a name	with a tab
12\t/srv/other
"""
TESTB = """debugfs: testb 1
Block 1 marked in use
debugfs: testb 15000
Block 15000 not in use
"""


def test_blocks_of_inodes() -> None:
    assert parse_icheck(ICHECK) == {8: 7, 9: 12}


def test_names_of_inodes() -> None:
    assert parse_ncheck(NCHECK) == {
        11: ["/lost+found"], 12: ["/srv/a name\twith a tab", "/srv/other"]
    }  # fmt: skip


def test_blocks_in_use() -> None:
    assert parse_testb(TESTB) == {1}
