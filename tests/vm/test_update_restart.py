# SPDX-License-Identifier: GPL-3.0-or-later
"""Updates after the primary was restarted in order, and after it crashed."""

from collections.abc import Iterator
from typing import Final

import pytest

from images.guest import Guest
from images.recipe import Recipe
from tests.support import updates
from tests.support.scenario import Story
from tests.support.updates import DATA, history, is_right

pytestmark = [pytest.mark.full, pytest.mark.timeout(2400)]

FILL: Final = f"""
for top in {DATA} /srv; do mkdir -p $top/kept; cd $top/kept
for i in $(seq 20); do head -c 300000 /dev/urandom > $i; done; done; sync
"""
CHANGE: Final = f"""
for top in {DATA} /srv; do cd $top/kept
echo changed | dd of=7 bs=1 seek=9000 conv=notrunc status=none; rm -f 8; date > new; done
"""


@pytest.fixture(scope="module", params=[13, pytest.param(12, marks=pytest.mark.matrix)])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[Story, Guest]]:
    with updates.prepared(Recipe(request.param, "uefi", "gpt", bus="scsi"), FILL) as pair:
        yield pair


def test_a_restart_in_order_is_no_reason_to_compare(pair: tuple[Story, Guest]) -> None:
    story, guest = pair
    guest.sh(CHANGE)
    guest.reboot(600)
    guest.sh(CHANGE)
    is_right(story, guest)
    assert history(guest)[0]["detector"] == "ext4", guest.sh("cat /var/lib/dpsr/boots.json")


def test_nor_are_two(pair: tuple[Story, Guest]) -> None:
    story, guest = pair
    guest.reboot(600)
    guest.sh(CHANGE)
    guest.reboot(600)
    is_right(story, guest)
    assert history(guest)[0]["detector"] == "ext4", guest.sh("cat /var/lib/dpsr/boots.json")


def test_after_a_crash_everything_is_compared(pair: tuple[Story, Guest]) -> None:
    """Written past the page cache, it is on the disk; its time stamp is not."""
    story, guest = pair
    guest.sh("dd if=/dev/urandom of=/srv/kept/9 bs=4096 count=8 conv=notrunc oflag=direct")
    guest.reset()
    guest.agent.sync(600)
    guest.wait_up(600)
    said = is_right(story, guest)
    assert "the system may have crashed since the last backup" in said.err, said.err
    guest.sh(CHANGE)
    is_right(story, guest)
    assert history(guest)[0]["detector"] == "ext4"
