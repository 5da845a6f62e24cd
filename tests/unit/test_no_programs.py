# SPDX-License-Identifier: GPL-3.0-or-later
"""The guard of the unit tests itself: a program that is started fails the test and is named."""

import os

import pexpect
import pytest

from core.run import run, start


def test_the_door_to_programs_is_closed() -> None:
    with pytest.raises(pytest.fail.Exception, match="mkswap"):
        run("mkswap", "/dev/null")
    with pytest.raises(pytest.fail.Exception, match="sleep"):
        start("sleep", "1")


def test_the_doors_beside_it_are_closed() -> None:
    with pytest.raises(pytest.fail.Exception, match="reboot"):
        os.system("reboot")
    with pytest.raises(pytest.fail.Exception, match="/bin/true"):
        os.posix_spawn("/bin/true", ["true"], {})
    with pytest.raises(pytest.fail.Exception, match="fork"):
        pexpect.spawn("/bin/true")


def test_code_that_catches_exceptions_cannot_hide_it() -> None:
    assert not issubclass(pytest.fail.Exception, Exception)
