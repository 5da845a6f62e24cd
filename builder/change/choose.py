# SPDX-License-Identifier: GPL-3.0-or-later
"""Which detector a volume gets, and why."""

from builder.change.detector import Compare, Detector, Readable, UseCompare
from builder.change.ext4.detector import Ext4


def choose(
    fstype: str, volume: Readable, slot: Readable, *, never_crashed: bool
) -> tuple[Detector, str]:
    """The quickest detector that may be trusted with a volume; where that is `compare`, why.

    `never_crashed`: since the last backup the volume was in use without a break, or each break
    began with an unmount. A crash keeps data and loses the time stamps of the last seconds.

    To be asked while the slot still is as the last backup left it. Raises ReadFailed.
    """
    if fstype != "ext4":
        return Compare(), f"there is no quicker way for {fstype}"
    if not never_crashed:
        return Compare(), "the system may have crashed since the last backup"
    try:
        return Ext4(volume, slot), ""
    except UseCompare as reason:
        return Compare(), str(reason)
