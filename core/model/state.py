# SPDX-License-Identifier: GPL-3.0-or-later
"""What the DPSR disk says of itself: the state block, read by GRUB before any kernel runs."""

import re
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Literal, get_args

Phase = Literal["building", "clean", "updating", "rolling-back"]

PHASES: Final[tuple[Phase, ...]] = get_args(Phase)
FORMAT: Final = 1
"""Version of the state block; see docs/on-disk-format.md."""

_TXID: Final = re.compile(r"[0-9a-f]{32}")
_RESCUE: Final = "rescue"
_ORDER: Final = "order"
_TRIAL: Final = "trial"
_PRIMARY: Final = "primary"
_UUID: Final = re.compile(r"[0-9A-Za-z-]{4,36}")


@dataclass(frozen=True, slots=True)
class State:
    """The one value that decides what the DPSR disk holds. Raises ValueError when it is none.

    Only `building` may leave `taken`, `txid` and `slot` empty.
    """

    state: Phase
    gen: int = 0
    """The generation that the slots hold, or held before the interrupted update; 0: none yet."""
    taken: str = ""
    """Its point in time: ISO 8601 with zone."""
    txid: str = ""
    """The transaction that made it (in `updating`: is making the next), 32 hex digits."""
    booted: bool = False
    """GRUB has started the copy since the last commit."""
    slot: str = ""
    """UUID of the slot's file system that holds GRUB's configuration (`/boot`, else `/`)."""
    to: int | None = None
    """In `rolling-back`: the generation to arrive at."""
    extra: tuple[tuple[str, str], ...] = ()
    """Keys that this version does not know, in their order; kept when it is written again."""

    @property
    def rescue(self) -> str:
        """Name of the rescue system on the control partition; empty: there is none."""
        return self._key(_RESCUE)

    def with_rescue(self, name: str) -> "State":
        """The same with another rescue system, or with none where `name` is empty."""
        return self._with(_RESCUE, name)

    @property
    def order(self) -> str:
        """The firmware's BootOrder before `dpsr switch dpsr`, as `0000,0003`; empty: as it was.

        `-`: it had no room here, and is on record on the primary alone.
        """
        return self._key(_ORDER)

    def with_order(self, order: str) -> "State":
        """The same while the order is switched, or when it is back where `order` is empty."""
        return self._with(_ORDER, order)

    @property
    def trial(self) -> str:
        """`1`: the next start of the copy is a trial. `2`: it was started as one. Else empty."""
        return self._key(_TRIAL)

    def with_trial(self, trial: str) -> "State":
        """The same with another mark; an empty one takes it away."""
        return self._with(_TRIAL, trial)

    def with_primary(self, wanted: str) -> "State":
        """The same; `1`: the guard in the primary's GRUB is to try the primary again."""
        return self._with(_PRIMARY, wanted)

    def _key(self, name: str) -> str:
        return dict(self.extra).get(name, "")

    def _with(self, name: str, value: str) -> "State":
        others = tuple(pair for pair in self.extra if pair[0] != name)
        return replace(self, extra=(*others, *(((name, value),) if value else ())))

    def __post_init__(self) -> None:
        """Hold what readers rely on, GRUB's script among them."""
        building = self.state == "building"
        if self.state not in PHASES:
            raise ValueError(f"state is {self.state!r}")
        if self.gen < 0 or (self.gen == 0) != building:
            raise ValueError(f"gen is {self.gen} while the state is {self.state}")
        if (self.taken or not building) and not _is_instant(self.taken):
            raise ValueError(f"taken is {self.taken!r}, not ISO 8601 with a zone")
        if (self.txid or not building) and not _TXID.fullmatch(self.txid):
            raise ValueError(f"txid is {self.txid!r}, not 32 hex digits")
        if (self.slot or not building) and not _UUID.fullmatch(self.slot):
            raise ValueError(f"slot is {self.slot!r}, no UUID")
        if (self.to is None) == (self.state == "rolling-back"):
            raise ValueError(f"to is {self.to} while the state is {self.state}")
        if self.to is not None and not 0 < self.to <= self.gen:
            raise ValueError(f"to is {self.to}, gen is {self.gen}")


def _is_instant(text: str) -> bool:
    try:
        return "T" in text and datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False
