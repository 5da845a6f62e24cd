# SPDX-License-Identifier: GPL-3.0-or-later
"""What only emulated machines do."""

from typing import Final

from images.guest import Guest
from images.wire import Late

_BREAKPOINT: Final = b"int3: 0000 [#1]"
"""The kernel patches its code while it runs, by way of a breakpoint. Emulated by several threads, a
processor now and then meets the breakpoint after it is gone. No machine does that."""


def wait_up(guest: Guest, patience: float = 600) -> None:
    """Wait until the system is up; a kernel that the emulator brought down is started once more.

    `patience`: seconds for each of the two. Raises Late.
    """
    for last in (False, True):
        waited = 0.0
        while True:
            try:
                guest.wait_up(patience / 10)
            except Late:
                waited += patience / 10
                if not last and _BREAKPOINT in guest.console_log.read_bytes():
                    break
                if waited >= patience:
                    raise
            else:
                return
        guest.pull_power()
        guest.power_on()
