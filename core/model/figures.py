# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run did, in figures. Apart from `copy`, since `dpsr status` needs no more than this."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RunFigures:
    """What one run did, for `status` and `history`."""

    seconds: float
    bytes_examined: int
    bytes_written: int
    passes: int
    stall_seconds: float
    detector: str
