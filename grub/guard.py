# SPDX-License-Identifier: GPL-3.0-or-later
"""The guard in the primary's GRUB: counts starts that came to nothing, then starts the DPSR disk.

GRUB takes one from a counter before each start; a unit of the system puts it back when the start
was good. At none left the DPSR disk is started, every time, until a person decides otherwise: a
machine never swings between old and new data by itself. GRUB's script has no arithmetic, hence the
chain.
"""

import errno
import os
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from core.errors import CannotWrite, ToolError
from core.files import sync_folder, write_durably
from core.run import run
from grub import envblock
from grub.primary import HEAD, PrimaryMenu

MOST: Final = 9
COUNTDOWN: Final = 15
"""Seconds in which a person can stop it."""
UNITS: Final = (
    ("multi-user.target.wants", "dpsr-guard-good.service"),
    ("emergency.target.wants", "dpsr-guard-emergency.service"),
)
PANIC: Final = """\
# Written by `dpsr guard on`: a kernel that panics, or finds no root, makes room for another try.
case " $GRUB_CMDLINE_LINUX $GRUB_CMDLINE_LINUX_DEFAULT " in
  *" panic="*) ;;
  *) [ -e /etc/dpsr/copy.json ] || GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX panic=30" ;;
esac
"""
_FACTS: Final = re.compile(
    r"^# guard: tries=(\d) control=(\S+) counter=(\S+) esp=(\S*)$", re.MULTILINE
)

_SCRIPT: Final = """\
insmod echo
insmod sleep
insmod test
function dpsr_failover {{
  set dpsr_c=
  if search --no-floppy --fs-uuid --set=dpsr_c {control}; then true; fi
  set state=
  set primary=
  if [ -z "$dpsr_c" ]; then
    echo "This system failed to start {tries} times, and the DPSR disk does not answer."
    echo "Going on with this one."
  else
    if load_env -f ($dpsr_c)/dpsr/state state primary; then true; fi
    if [ "$primary" = 1 ]; then
      # Somebody said so on the copy: `dpsr switch primary`. It counts once.
      unset primary
      if save_env -f ($dpsr_c)/dpsr/state primary; then true; fi
      set dpsr_left={tries}
      unset dpsr_over
      if save_env -f $dpsr_env dpsr_left dpsr_over; then true; fi
    elif [ "$state" != clean -a "$state" != updating -a "$state" != rolling-back ]; then
      echo "This system failed to start {tries} times, and there is no complete copy."
      echo "Going on with this one."
    else
      echo
      echo "This system failed to start {tries} times. THE DPSR DISK IS STARTED INSTEAD."
      echo "Press Escape to stop that and to see this system's own menu."
      if sleep --interruptible --verbose {countdown}; then
        set dpsr_over=1
        if save_env -f $dpsr_env dpsr_over; then true; fi
        # What is done there from now on is work, also where a trial was to come.
        unset trial
        if save_env -f ($dpsr_c)/dpsr/state trial; then true; fi
        dpsr_start {control}
      else
        echo "Stopped."
      fi
    fi
  fi
}}
set dpsr_env=
{place}
if [ -n "$dpsr_env" -a -s "$dpsr_env" ]; then
  set dpsr_left=
  if load_env -f $dpsr_env dpsr_left; then true; fi
  # Whoever chooses the DPSR disk in the menu gets the try back: 42_dpsr.
  set dpsr_was=$dpsr_left
  set dpsr_next=
{chain}
  if [ "$dpsr_left" = 0 ]; then
    dpsr_failover
  elif [ -n "$dpsr_next" ]; then
    set dpsr_left=$dpsr_next
    if save_env -f $dpsr_env dpsr_left; then true; fi
  fi
fi
"""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the guard goes by."""

    tries: int
    control: str
    """UUID of the control partition's file system."""
    counter: str
    """File of the counter, as this system names it."""
    esp: str = ""
    """UUID of the ESP that the counter lies on; empty: it lies beside GRUB's own files."""


def script(facts: Facts) -> str:
    """What /etc/grub.d/05_dpsr_guard prints before the first menu entry. Pure."""
    name = Path(facts.counter).name
    place = (
        f"if search --no-floppy --fs-uuid --set=dpsr_e {facts.esp}; then "
        f"set dpsr_env=($dpsr_e)/EFI/dpsr/{name}; fi"
        if facts.esp
        else f"set dpsr_env=$prefix/{name}"
    )
    # Not from 0 to 0: at none left nothing is counted any more.
    chain = "\n".join(
        f'  if [ "$dpsr_left" = {left} ]; then set dpsr_next={left - 1}; fi'
        for left in range(1, MOST + 1)
    )
    return (
        f"# guard: tries={facts.tries} control={facts.control} counter={facts.counter} "
        f"esp={facts.esp}\n{HEAD}"
        + _SCRIPT.format(
            control=facts.control,
            tries=facts.tries,
            countdown=COUNTDOWN,
            place=place,
            chain=chain,
        )
    )


@dataclass(frozen=True, slots=True)
class PrimaryGuard:
    """The guard on the running primary; the paths are for tests."""

    menu: PrimaryMenu = field(default_factory=PrimaryMenu)
    ours: Path = Path("/etc/dpsr/guard.cfg")
    panic: Path = Path("/etc/default/grub.d/zz-dpsr-guard.cfg")
    units: Path = Path("/etc/systemd/system")
    shipped: Path = Path("/usr/lib/systemd/system")
    is_mount: Callable[[Path], bool] = os.path.ismount

    def facts(self) -> Facts | None:
        """What the guard goes by; None: it is off."""
        try:
            found = _FACTS.search(self.ours.read_text("utf-8"))
        except OSError:
            return None
        return Facts(int(found[1]), found[2], found[3], found[4]) if found else None

    def left(self) -> int | None:
        """How many starts are left; None: off, or the counter cannot be read."""
        facts = self.facts()
        try:
            pairs = dict(envblock.decode(Path(facts.counter).read_bytes())) if facts else {}
            return int(pairs["dpsr_left"])
        except (OSError, ValueError, KeyError):
            return None

    def over(self) -> bool:
        """Whether the DPSR disk was started by it, and nobody has decided since."""
        facts = self.facts()
        try:
            pairs = dict(envblock.decode(Path(facts.counter).read_bytes())) if facts else {}
        except (OSError, ValueError):
            return False
        return pairs.get("dpsr_over") == "1"

    def on(self, facts: Facts) -> None:
        """Switch it on, or set it anew. Raises CannotWrite, ToolError.

        What counts comes last: cut off before, nothing is counted.
        """
        try:
            self._count(facts, facts.tries)
            for folder, unit in UNITS:
                link = self.units / folder / unit
                link.parent.mkdir(parents=True, exist_ok=True)
                if not link.is_symlink():
                    link.symlink_to(self.shipped / unit)
                    sync_folder(link.parent)
            for path, text in ((self.panic, PANIC), (self.ours, script(facts))):
                path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
                write_durably(path, text.encode())
        except OSError as reason:
            raise CannotWrite(f"{reason.filename}: {reason.strerror}.") from None
        run("systemctl", "daemon-reload")
        self.menu.update()
        if "dpsr_failover" not in self.menu.config.read_text("utf-8", "surrogateescape"):
            raise CannotWrite(
                f"{self.menu.config} does not hold the guard after update-grub.",
                "Is /etc/grub.d/05_dpsr_guard there, and executable?",
            )

    def off(self) -> None:
        """Switch it off; again does nothing. Raises CannotWrite, ToolError.

        Without its counter it does nothing from the first moment on.
        """
        facts = self.facts()
        try:
            if facts is not None:
                Path(facts.counter).unlink(missing_ok=True)
                if Path(facts.counter).parent.is_dir():
                    sync_folder(Path(facts.counter).parent)
            for path in (self.ours, self.panic, *(self.units / f / unit for f, unit in UNITS)):
                path.unlink(missing_ok=True)
        except OSError as reason:
            raise CannotWrite(f"{reason.filename}: {reason.strerror}.") from None
        if facts is not None:
            run("systemctl", "daemon-reload")
            self.menu.update()

    def reset(self, *, only_good: bool = False) -> bool:
        """Give the system all its tries again; False: it is off, or stays failed over.

        `only_good`: after a good start, which does not undo a failover. Raises CannotWrite.
        """
        facts, over = self.facts(), self.over()
        if facts is None or (only_good and over):
            return False
        if over or self.left() != facts.tries:
            try:
                self._count(facts, facts.tries)
            except OSError as reason:
                raise CannotWrite(f"{facts.counter}: {reason.strerror}.") from None
        return True

    def end(self, control: str) -> list[str]:
        """Switch it off if it goes to that DPSR disk; returns warnings."""
        facts = self.facts()
        if facts is None or facts.control != control:
            return []
        try:
            self.off()
        except (ToolError, OSError) as reason:
            return [f"The guard could not be switched off: {reason} `dpsr guard off` tries again."]
        return []

    def follow(self, known: Collection[str], control: str) -> list[str]:
        """Let it start the DPSR disk `control`, if its own is none of the `known` any more.

        Such a disk was made anew, or replaced. Returns warnings, one sentence each.
        """
        facts = self.facts()
        if facts is None or facts.control in known:
            return []
        try:
            self.on(replace(facts, control=control))
        except (ToolError, OSError) as reason:
            return [
                (
                    f"The guard still waits for a DPSR disk that is no more: {reason} "
                    "`dpsr guard on` tries again."
                )
            ]
        return []

    def _count(self, facts: Facts, left: int) -> None:
        """Written in place where it is there: GRUB, too, writes to the blocks that it has."""
        path = Path(facts.counter)
        # Below an ESP that is not mounted lies a folder of the root, which GRUB never reads.
        if facts.esp and not self.is_mount(path.parents[2]):
            raise OSError(errno.ENODEV, "the ESP is not mounted", str(path.parents[2]))
        path.parent.mkdir(parents=True, exist_ok=True)
        block = envblock.encode([("dpsr_left", str(left))], within=512)
        if path.exists() and path.stat().st_size == envblock.SIZE:
            with open(path, "r+b") as stream:
                stream.write(block)
                stream.flush()
                os.fsync(stream.fileno())
        else:
            write_durably(path, block)
