# SPDX-License-Identifier: GPL-3.0-or-later
"""What the rescue system is made of."""

from pathlib import Path

from images import rescue
from tests.support.data import DATA

ROOT = DATA.parents[1]


def test_its_name_changes_with_the_kernel_and_with_this_program_alone(tmp_path: Path) -> None:
    kernel = tmp_path / "vmlinuz-6.1"
    kernel.write_bytes(b"a kernel")
    name = rescue.name_of(kernel)
    assert len(name) == 16
    assert rescue.name_of(kernel) == name
    kernel.write_bytes(b"another one")
    assert rescue.name_of(kernel) != name


def test_its_configuration_is_none_of_the_primarys(tmp_path: Path) -> None:
    rescue.configure(tmp_path / "conf")
    settings = (tmp_path / "conf/initramfs.conf").read_text()
    assert "RESUME=none" in settings
    for name in ("hooks/dpsr", "scripts/dpsr"):
        text = (tmp_path / "conf" / name).read_text()
        assert "@" not in text.replace('"$@"', "")
        assert str(ROOT) in text
        assert (tmp_path / "conf" / name).stat().st_mode & 0o100
