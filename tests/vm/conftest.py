# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests for the scenarios. What a test changes in a guest is thrown away after it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from core.run import have
from images import cache

_PROGRAMS = ("qemu-system-x86_64", "qemu-img", "mmdebstrap")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Guests take their time without KVM; building a sample the first time does too."""
    for item in items:
        if Path(__file__).parent in item.path.parents and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(1800))


@pytest.fixture(scope="session", autouse=True)
def programs() -> None:
    missing = [program for program in _PROGRAMS if not have(program)]
    assert not missing, f"{', '.join(missing)} missing: start the tests with ./run vm"


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder for disk images: on a real disk, unlike /tmp on some machines."""
    with cache.scratch() as path:
        yield path
