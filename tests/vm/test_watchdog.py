# SPDX-License-Identifier: GPL-3.0-or-later
"""A frozen root is thawed, whatever happens to the service that froze it."""

import time
from collections.abc import Iterator

import pytest

from core.errors import ProgramTimeout
from images import sample
from images.guest import Guest
from images.recipe import Recipe
from tests.support.push import FOLDER, push_rooms

FREEZE = """
import sys, time
from builder.still.freezer import Freezer
with Freezer(["/"], float(sys.argv[1])) as freezer, freezer.frozen():
    open("/run/frozen", "w").close()
    time.sleep(600)
"""


@pytest.fixture(
    scope="module", params=[Recipe(), pytest.param(Recipe(release=12), marks=pytest.mark.full)]
)
def guest(request: pytest.FixtureRequest) -> Iterator[Guest]:
    with sample.booted(sample.build(request.param, print), (), print) as running:
        push_rooms(running)
        running.put("/run/freeze.py", FREEZE)
        yield running


def freeze(guest: Guest, max_freeze: int) -> None:
    """A service that freezes / and does not let go; returns when it is frozen."""
    guest.sh(
        "rm -f /run/frozen; systemctl reset-failed; sync; systemd-run --quiet --unit=freezing "
        f"--setenv=PYTHONPATH={FOLDER} python3 /run/freeze.py {max_freeze}\n"
        "until test -e /run/frozen; do sleep 0.05; done"
    )
    units = guest.sh("systemctl list-units --no-legend 'dpsr-watchdog-*'")
    assert units.count("running") == 1, "the watchdog is not in a unit of its own"


def writes_again(guest: Guest, within: float) -> bool:
    job = guest.start("touch", f"/root/{time.monotonic()}")
    try:
        job.wait(within)
    except ProgramTimeout:
        return False
    return True


@pytest.mark.parametrize(
    ("how", "max_freeze"),
    [
        ("systemctl kill --signal=KILL freezing", 60),
        ("systemctl stop --no-block freezing", 5),  # heeded after the freeze, which ends in time
    ],
)
def test_a_service_that_is_ended(guest: Guest, how: str, max_freeze: int) -> None:
    freeze(guest, max_freeze)
    assert not writes_again(guest, 1)
    guest.sh(how)
    assert writes_again(guest, 20)
    guest.sh("systemctl kill --signal=KILL freezing || true")
    guest.sh(
        "until ! systemctl is-active --quiet 'dpsr-watchdog-*'; do sleep 0.1; done", timeout=30
    )


def test_a_service_that_hangs(guest: Guest) -> None:
    freeze(guest, 4)
    guest.sh("systemctl kill --signal=STOP freezing")
    assert writes_again(guest, 20)
    guest.sh("systemctl kill --signal=KILL freezing")


def test_sleep_and_shutdown_wait_a_moment(guest: Guest) -> None:
    freeze(guest, 3)
    said = guest.sh("systemd-inhibit --list --no-legend")
    assert any("dpsr" in line and "delay" in line for line in said.splitlines()), said
    assert writes_again(guest, 20)
    guest.sh("systemctl kill --signal=KILL freezing")
