# SPDX-License-Identifier: GPL-3.0-or-later
"""SQLite and PostgreSQL commit all the while, through several updates; then the copy is started.

What a database had acknowledged before the freeze is on the copy, and hardly anything else.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from images import cache
from images.guest import Guest
from images.recipe import Recipe
from tests.support import checks, facts, ledger, scenario
from tests.support.checks import none_of
from tests.support.packages import Archive, install
from tests.support.scenario import DPSR, Story

pytestmark = [pytest.mark.full, pytest.mark.timeout(3000)]

RECIPE: Final = Recipe(13, "uefi", "gpt", bus="virtio")
UPDATES: Final = 3
DATABASES: Final = ("sqlite", "postgres")
LEDGER: Final = "/run/ledger.py"
PSQL: Final = "cd /; runuser -u postgres -- psql -qAtX -c"


@dataclass(slots=True)
class Books:
    story: Story
    acknowledged: dict[str, int] = field(default_factory=dict)
    """The last number, at the freeze, by database."""
    begun: dict[str, int] = field(default_factory=dict)
    """The same before the last update began."""


def acknowledged(guest: Guest) -> dict[str, int]:
    said = {name: guest.sh(f"tail -n 1 /run/acks-{name}") for name in DATABASES}
    return {name: int(text or 0) for name, text in said.items()}


@pytest.fixture(scope="module")
def books() -> Iterator[Books]:
    with cache.scratch() as folder:
        books = Books(story := scenario.new_story(RECIPE, folder, "scsi"))
        with scenario.working(story.sample, [scenario.own(story)]) as guest:
            scenario.settings(guest)
            archive = Archive(RECIPE.release)
            status = guest.get("/var/lib/dpkg/status")
            install(guest, archive, *archive.missing(status, "postgresql"))
            guest.put(LEDGER, Path(ledger.__file__).read_bytes())
            said = scenario.dpsr(guest, "prepare", DPSR, "--yes")
            assert said.status == 0, said.err
            jobs = [guest.start("python3", LEDGER, name, f"/run/acks-{name}") for name in DATABASES]
            time.sleep(5)
            for number in range(UPDATES):
                books.begun = acknowledged(guest)
                scenario.hold(guest, "frozen")
                job = scenario.start(guest, "update")
                scenario.wait_for(guest, job, "frozen")
                books.acknowledged = acknowledged(guest)
                if number + 1 == UPDATES:
                    scenario.keep_frozen(story, guest)
                scenario.let_go(guest, "frozen")
                story.said = job.wait(scenario.PATIENCE, ok=None)
                assert story.said.status == 0, story.said.err
                assert all(each.poll() is None for each in jobs), [each.poll() for each in jobs]
            guest.sh("touch /run/ledger.stop")
            for each in jobs:
                each.wait(60)
            assert scenario.left_behind(guest) == {}
            story.facts = facts.ask(guest)
            scenario.switch_off(story, guest)
        yield books


def test_the_databases_were_at_work(books: Books) -> None:
    for name in DATABASES:
        assert books.acknowledged[name] > books.begun[name] + 10, books


def test_every_used_block_is_that_of_the_freeze(books: Books) -> None:
    verdict = scenario.judge(books.story, UPDATES + 1)
    assert verdict, str(verdict)


@pytest.fixture(scope="module")
def copy(books: Books) -> Iterator[Guest]:
    with scenario.started(books.story, [books.story.spec()], "uefi") as guest:
        none_of(checks.copy_faults(books.story, facts.ask(guest)))
        yield guest


def holds(numbers: str, last: int) -> None:
    """All numbers up to `last`, and at most one that was on its way; without a gap."""
    count, lowest, highest = map(int, numbers.split("|"))
    assert lowest == 1
    assert count == highest, f"{highest - count} transactions are missing below {highest}"
    assert last <= highest <= last + 1, f"{highest} on the copy, {last} acknowledged"


def test_sqlite_has_all_that_was_acknowledged(books: Books, copy: Guest) -> None:
    assert copy.sh(f"sqlite3 {ledger.DATA} 'pragma integrity_check'") == "ok\n"
    asked = "select count(*), min(n), max(n) from ledger"
    holds(copy.sh(f"sqlite3 {ledger.DATA} '{asked}'"), books.acknowledged["sqlite"])


def test_postgresql_starts_and_has_all_that_was_acknowledged(books: Books, copy: Guest) -> None:
    assert "online" in copy.sh("pg_lsclusters --no-header")
    asked = "select count(*), min(n), max(n) from ledger"
    holds(copy.sh(f'{PSQL} "{asked}"', timeout=120), books.acknowledged["postgres"])
    copy.sh("cd /; runuser -u postgres -- pg_dumpall > /dev/null", timeout=300)
    copy.sh(f'{PSQL} "reindex table ledger"', timeout=300)
