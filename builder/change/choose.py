# SPDX-License-Identifier: GPL-3.0-or-later
"""Which detector a volume gets, and why."""

from builder.change.detector import Compare, Detector, Readable, UseCompare
from builder.change.ext4.detector import Ext4


def choose(fstype: str, volume: Readable, slot: Readable) -> tuple[Detector, str]:
    """The quickest detector that understands the volume; where that is `compare`, why.

    To be asked while the slot still is as the last backup left it. Raises ReadFailed.
    """
    if fstype != "ext4":
        return Compare(), f"{fstype} is compared block by block"
    try:
        return Ext4(volume, slot), ""
    except UseCompare as reason:
        return Compare(), str(reason)
