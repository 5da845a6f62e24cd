# SPDX-License-Identifier: GPL-3.0-or-later
"""dpsr.toml survives, and what is wrong in it is named by its line."""

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.plan.identity import Fresh
from builder.plan.layout import make_plan
from builder.plan.wish import Wish
from core.errors import BadSettings, NotPrepared
from core.settings import (
    BackupSet,
    Settings,
    VolumeSettings,
    line_of,
    load,
    parse,
    render,
    save,
    set_of,
)
from tests.support.machines import blank, fstab, machine, primary

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VOLUMES = st.builds(VolumeSettings, TEXT, TEXT, TEXT, TEXT, st.integers(0, 99), TEXT, TEXT)
SETS = st.builds(
    BackupSet, st.just("system"), TEXT, TEXT, TEXT, TEXT, st.integers(0, 1 << 60),
    st.integers(0, 1 << 60), TEXT, TEXT, TEXT, st.tuples(VOLUMES, VOLUMES),
    st.tuples(TEXT, TEXT),
)  # fmt: skip

SAMPLE = Settings(
    quiet_for=3.0,
    sets=(
        BackupSet(
            "system", "SER-sdb", "0x5000", "guid", 'A "disk"', 1 << 40, 2098176, "cg", "1A2B-3C4D",
            "vg",
            (
                VolumeSettings("/", "ext4", "u1", "root", 3, "u2", "g2"),
                VolumeSettings("/home", "ext4", "u3", "home", 4, "u4", "g4"),
            ),
        ),
    ),
)  # fmt: skip


@given(SETS)
def test_any_set_survives(backup_set: BackupSet) -> None:
    whole = Settings(sets=(backup_set,))
    assert parse(render(whole)) == whole


def test_the_file_survives(tmp_path: Path) -> None:
    path = tmp_path / "dpsr" / "dpsr.toml"
    assert load(path) == Settings()
    save(SAMPLE, path)
    assert load(path) == SAMPLE
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_plan_is_recorded_with_all_that_finds_the_disk_again() -> None:
    system = machine(primary(), blank())
    plan = make_plan(
        system, system.disks[1], Wish(name="other"), fstab(system), Fresh(Random(1).randbytes)
    )
    recorded = set_of(plan, 4096)
    assert (recorded.name, recorded.serial, recorded.guid) == ("other", "SER-sdb", plan.disk_guid)
    assert recorded.control_uuid == plan.control.identity.uuid
    assert [(v.mountpoint, v.slot, v.slot_number) for v in recorded.volume] == [
        ("/", "root", 3), ("/boot/efi", "efi", 4), ("/home", "home", 5),
    ]  # fmt: skip
    assert recorded.volume[0].uuid == plan.volumes[0].identity.uuid
    assert recorded.volume[0].slot_uuid == plan.slots[0].identity.uuid


def test_a_disk_is_in_one_set_only() -> None:
    again = replace(SAMPLE.sets[0], name="other", guid="new")
    assert SAMPLE.with_set(again).sets == (again,)


def test_a_set_replaces_the_one_of_its_name() -> None:
    new = BackupSet("system", "S2", "", "g", "m", 1, 2, "c", "u", "v")
    other = BackupSet("other", "S3", "", "g", "m", 1, 2, "c", "u", "v")
    both = SAMPLE.with_set(other).with_set(new)
    assert both.named("system") == new
    assert both.named("other") == other
    assert both.quiet_for == 3.0
    with pytest.raises(NotPrepared, match="third"):
        both.named("third")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("quiet_wait", "quiet_weight", "unknown key 'quiet_weight'"),
        ("quiet_for = 3.0", "quiet_for = -1", "quiet_for must be from 0.0 to 600.0"),
        ("quiet_for = 3.0", 'quiet_for = "long"', "'long' is not float"),
        ("max_freeze = 2.0", "max_freeze = true", "True is not float"),
        ("max_change = 30", "max_change = 0", "max_change must be from 1 to 100"),
        ("hook_seconds = 30.0", "hook_seconds = 0", "hook_seconds must be from 1.0 to 3600.0"),
        ('after_thaw = ""', 'after_thaw = "\\u0000"', "after_thaw is no command"),
        ('before_freeze = ""', "before_freeze = []", r"\[\] is not str"),
        ('wwn = "0x5000"', "wwn = 5", "5 is not str"),
        ('wwn = "0x5000"', 'vwn = "0x5000"', "unknown key 'vwn'"),
        ('uuid = "u3"', "uuid = []", r"\[\] is not str"),
        ("quiet_for = 3.0", "sets = []", "unknown key 'sets'"),
        ("[set.system]", '[set."a b"]', "a set cannot be called 'a b'"),
    ],
)
def test_a_mistake_is_named_by_its_line(old: str, new: str, said: str) -> None:
    text = render(SAMPLE)
    assert old in text
    wrong = text.replace(old, new)
    line = next(n for n, line in enumerate(wrong.splitlines(), 1) if new in line)
    if new.startswith('[set."'):
        wrong = wrong.split("[[")[0]
    with pytest.raises(BadSettings, match=rf"dpsr\.toml, line {line}: {said}"):
        parse(wrong)


def test_a_missing_key_is_named_by_the_line_of_its_table() -> None:
    text = render(SAMPLE).replace('slot_uuid = "u4"\n', "")
    tables = [n for n, line in enumerate(text.splitlines(), 1) if line.startswith("[[")]
    with pytest.raises(BadSettings, match=f"line {tables[1]}: 'slot_uuid' is missing"):
        parse(text)


def test_what_is_no_toml_is_named_by_its_line_too() -> None:
    with pytest.raises(BadSettings, match="line 2"):
        parse("quiet_for = 5\nquiet_wait =\n")


def test_sets_that_are_no_tables_are_refused() -> None:
    for text in ("set = 1\n", "[set]\nsystem = 1\n", '[set.system]\nname = "x"\n'):
        with pytest.raises(BadSettings, match=r"line \d"):
            parse(text)


def test_lines_are_counted_from_one() -> None:
    assert line_of("a = 1\nb = 2\n", ["b"]) == 2
    assert line_of("# b = 1\n\n[x]\n'b' = 2\n", ["x", "b"]) == 4
    assert line_of("[[x]]\nb = 1\n[[x]]\nb = 2\n", ["x", "1", "b"]) == 4
    assert line_of("a = 1\n", ["nowhere"]) == 1
