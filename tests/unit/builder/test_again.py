# SPDX-License-Identifier: GPL-3.0-or-later
"""`prepare` on a disk that is known: refused while it holds a copy, else as it was asked for."""

from dataclasses import replace
from pathlib import Path

import pytest

from builder import again
from builder.plan.wish import Wish
from core.errors import AlreadyPrepared, NotPrepared
from core.model.state import State
from core.settings import BackupSet, Settings, VolumeSettings
from grub.state import pack
from tests.support.machines import blank, machine, mount, part, primary

TXID = "0" * 32
CLEAN = State("clean", 3, "2026-01-01T00:00:00+00:00", TXID, slot="1111-2222")


def a_set(*places: str, exclude: tuple[str, ...] = ()) -> BackupSet:
    volumes = tuple(VolumeSettings(place, "ext4", "u", "s", 3, "v", "g") for place in places)
    return BackupSet(
        "system", "SER-sdb", "", "the-guid", "m", 1, 0, "c", "d", "v", volumes, exclude
    )


KNOWN = Settings(sets=(a_set("/"),))


@pytest.mark.parametrize("wish", [Wish(), Wish(name="other", again=True)])
def test_a_complete_copy_is_not_given_up_by_mistake(tmp_path: Path, wish: Wish) -> None:
    image = tmp_path / "disk"
    image.write_bytes(pack(CLEAN) + bytes(4096))
    disk = blank(str(image), guid="the-guid")
    with pytest.raises(AlreadyPrepared, match="complete copy of 2026-01-01"):
        again.refuse_complete(disk, KNOWN, wish)


def test_asked_for_it_may_be_laid_out_anew(tmp_path: Path) -> None:
    image = tmp_path / "disk"
    image.write_bytes(pack(CLEAN) + bytes(4096))
    again.refuse_complete(blank(str(image), guid="the-guid"), KNOWN, Wish(again=True))


@pytest.mark.parametrize("content", [pack(State("building")) + bytes(4096), bytes(8192)])
def test_what_holds_no_copy_may_be_prepared(tmp_path: Path, content: bytes) -> None:
    image = tmp_path / "disk"
    image.write_bytes(content)
    again.refuse_complete(blank(str(image), guid="the-guid"), KNOWN, Wish())


def test_only_with_again_the_disk_need_not_be_named() -> None:
    assert again.recorded_name(KNOWN, Wish(again=True)) == "SER-sdb"
    with pytest.raises(NotPrepared):
        again.recorded_name(KNOWN, Wish())
    with pytest.raises(NotPrepared):
        again.recorded_name(KNOWN, Wish(name="other", again=True))


def test_what_was_asked_for_the_first_time_is_kept() -> None:
    system = machine(primary(), blank())
    more = part("/dev/sda5", 5, 1 << 34, 1 << 26, "ext4")
    system = replace(system, mounts=(*system.mounts, mount(more, "/srv")))
    known = Settings(sets=(a_set("/", "/srv", "/gone", exclude=("/home", "/away")),))
    kept = again.as_before(system, known, Wish())
    assert (kept.volumes, kept.exclude) == (("/", "/srv"), ("/home",))


def test_what_is_asked_for_now_comes_first() -> None:
    system = machine(primary(), blank())
    known = Settings(sets=(a_set("/", "/home", exclude=()),))
    assert again.as_before(system, known, Wish(exclude=("/home",))).volumes == ("/",)
    known = Settings(sets=(a_set("/", exclude=("/home",)),))
    assert again.as_before(system, known, Wish(volumes=("/home/",))).exclude == ()


def test_a_new_set_is_as_it_is_asked_for() -> None:
    wish = Wish(name="other", exclude=("/home",))
    assert again.as_before(machine(primary(), blank()), KNOWN, wish) is wish
