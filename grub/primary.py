# SPDX-License-Identifier: GPL-3.0-or-later
"""The entry "Start from the DPSR disk" in the primary's own GRUB menu, and GRUB's choice there.

/etc/grub.d/42_dpsr, which the package brings, prints `/etc/dpsr/menu.cfg` into each new grub.cfg,
so that the entry survives update-grub, new kernels and new versions of GRUB.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from core.errors import CannotWrite, CommandFailed, NoWayThere, ToolError
from core.files import sync_folder, write_durably
from core.run import have, run
from core.settings import BackupSet

_UPDATE: Final = 600.0
"""Seconds; update-grub looks at every disk when os-prober is on."""
_READ_ONLY: Final = frozenset({"btrfs", "zfs", "squash4", "cpiofs", "romfs", "tarfs"})
"""File systems that GRUB cannot write its environment block to (as Debian's 00_header)."""

HEAD: Final = """\
# Written by dpsr; /etc/grub.d/42_dpsr prints it into grub.cfg. The DPSR disk's own loader is
# started: none of its configuration is read here, its modules may be of another version of GRUB.
insmod part_gpt
insmod fat
insmod search_fs_uuid
insmod loadenv
insmod regexp
insmod chain
function dpsr_start {
  set dpsr_c=
  if search --no-floppy --fs-uuid --set=dpsr_c "$1"; then true; fi
  if [ -z "$dpsr_c" ]; then
    echo "The DPSR disk does not answer."
    sleep --interruptible 5
  elif [ "$grub_platform" = efi ]; then
    # The file by $root: with a device in the name the loader would take the wrong disk for its own.
    set root=$dpsr_c
    if chainloader /EFI/BOOT/BOOTX64.EFI; then boot; fi
  else
    regexp --set=1:dpsr_d '^([^,]+)' "$dpsr_c"
    set root=$dpsr_d
    if chainloader +1; then boot; fi
  fi
}
"""
_ENTRY: Final = """\
set dpsr_c=
if search --no-floppy --fs-uuid --set=dpsr_c {uuid}; then
  set state=
  set taken=
  if load_env -f ($dpsr_c)/dpsr/state state taken; then true; fi
  set dpsr_of=
  if regexp --set=1:dpsr_day --set=2:dpsr_hour '^([0-9-]+)T([0-9]+:[0-9]+)' "$taken"; then
    set dpsr_of=" (backup of $dpsr_day $dpsr_hour UTC)"
  fi
  if [ "$state" != building ]; then
    menuentry "Start from the DPSR disk{called}$dpsr_of" --id {id} {{
      if [ -n "$dpsr_env" -a -n "$dpsr_was" ]; then
        # The guard has counted this start as one of the primary.
        set dpsr_left=$dpsr_was
        if save_env -f $dpsr_env dpsr_left; then true; fi
      fi
      dpsr_start {uuid}
    }}
  fi
fi
"""
SWITCHED: Final = """\
# Written by `dpsr switch dpsr`: this machine starts from the DPSR disk. `dpsr switch primary` takes
# it away again. On a copy it says nothing.
if [ ! -e /etc/dpsr/copy.json ]; then
  GRUB_DEFAULT={id}
  # Whoever wants the primary needs a moment to choose it.
  GRUB_TIMEOUT_STYLE=menu
  if [ "${{GRUB_TIMEOUT:-0}}" != -1 ] && ! [ "${{GRUB_TIMEOUT:-0}}" -ge 5 ] 2>/dev/null; then
    GRUB_TIMEOUT=5
  fi
fi
"""


def entry_id(name: str) -> str:
    """By which GRUB knows the entry of the backup set `name`."""
    return "dpsr" if name == "system" else f"dpsr-{name}"


def menu(sets: Sequence[BackupSet]) -> str:
    """What 42_dpsr prints; nothing when there is no DPSR disk. Pure."""
    if not sets:
        return ""
    return HEAD + "".join(
        _ENTRY.format(
            uuid=known.control_uuid,
            id=entry_id(known.name),
            called="" if known.name == "system" else f" {known.name}",
        )
        for known in sets
    )


@dataclass(frozen=True, slots=True)
class PrimaryMenu:
    """GRUB's menu on the running primary; the paths are for tests."""

    ours: Path = Path("/etc/dpsr/menu.cfg")
    config: Path = Path("/boot/grub/grub.cfg")
    env: Path = Path("/boot/grub/grubenv")
    switched: Path = Path("/etc/default/grub.d/zz-dpsr-switch.cfg")

    def offer(self, sets: Sequence[BackupSet]) -> list[str]:
        """Let the menu have one entry for each of `sets`; returns warnings and never fails."""
        wanted = menu(sets)
        try:
            if self._now() == wanted and all(self._has(known) for known in sets):
                return []
            if not (have("update-grub") and self.config.exists()):
                return [] if not wanted else ["This system has no GRUB menu to put an entry into."]
            self._write(self.ours, wanted)
            self.update()
        except (ToolError, OSError) as reason:
            return [f"The primary's own menu could not be brought up to date: {reason}"]
        missing = [known.name for known in sets if not self._has(known)]
        return [f"The primary's own menu has no entry for {name}." for name in missing]

    def end(self, name: str, left: Sequence[BackupSet]) -> list[str]:
        """Take the entry of the set `name` away, and what chose it; returns warnings."""
        try:
            if self.chosen() == entry_id(name):
                self.switched.unlink(missing_ok=True)
            if self.next() == entry_id(name):
                self.forget_once()
        except (ToolError, OSError) as reason:
            return [f"The primary's own menu still goes to the DPSR disk: {reason}"]
        return self.offer(left)

    def chosen(self) -> str:
        """Id of the entry that `switch dpsr` made the default; empty: the primary's own."""
        words = self._text(self.switched).split()
        found = [word for word in words if word.startswith("GRUB_DEFAULT=")]
        return found[0].partition("=")[2] if found else ""

    def next(self) -> str:
        """What GRUB was told to start once; empty: nothing."""
        try:
            lines = run("grub-editenv", str(self.env), "list").splitlines()
        except CommandFailed:
            return ""
        return next((line[11:] for line in lines if line.startswith("next_entry=")), "")

    def start_once(self, entry: str) -> None:
        """Let the next start alone go to the entry `entry`.

        Raises NoWayThere where GRUB could not forget it afterwards, CannotWrite.
        """
        if (reason := self.why_read_only()) is not None:
            raise NoWayThere(
                f"GRUB cannot write to {self.env} ({reason}), so it would start the same entry "
                "again and again. Nothing was changed.",
                'Choose "Start from the DPSR disk" in the menu when the machine starts.',
            )
        self._edit("set", f"next_entry={entry}")
        if self.next() != entry:
            raise CannotWrite(f"{self.env} does not read back as it was written.")

    def forget_once(self) -> None:
        """Let the next start go by the default again. Raises CannotWrite."""
        if self.next():
            self._edit("unset", "next_entry")

    def start_always(self, entry: str) -> None:
        """Make the entry `entry` the default; empty: the one that it was. Raises CannotWrite."""
        if self.chosen() != entry:
            try:
                if entry:
                    self._write(self.switched, SWITCHED.format(id=entry))
                else:
                    self.switched.unlink(missing_ok=True)
                    sync_folder(self.switched.parent)
            except OSError as reason:
                raise CannotWrite(f"{self.switched}: {reason.strerror}.") from None
        if self._default_is_ours(entry) != bool(entry):
            self.update()
        if self._default_is_ours(entry) != bool(entry):
            raise CannotWrite(
                f"{self.config} does not name the wanted default after update-grub.",
                "Something in /etc/default/grub.d sets GRUB_DEFAULT after us: look there.",
            )

    def _default_is_ours(self, entry: str) -> bool:
        mark = f'set default="{entry}"' if entry else 'set default="dpsr'
        return mark in self._text(self.config)

    def _has(self, known: BackupSet) -> bool:
        text = self._text(self.config)
        return f"--id {entry_id(known.name)} " in text and known.control_uuid in text

    def _now(self) -> str:
        return self._text(self.ours)

    def _text(self, path: Path) -> str:
        try:
            return path.read_text("utf-8", "surrogateescape")
        except FileNotFoundError:
            return ""

    def _write(self, path: Path, text: str) -> None:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        write_durably(path, text.encode())

    def _edit(self, *words: str) -> None:
        try:
            run("grub-editenv", str(self.env), *words)
            with open(self.env, "rb") as stream:
                os.fsync(stream.fileno())
        except (CommandFailed, OSError) as reason:
            raise CannotWrite(f"{self.env} could not be written: {reason}.") from None

    def update(self) -> None:
        """update-grub, and its file on the disk. Raises CannotWrite."""
        try:
            run("update-grub", timeout=_UPDATE)
            with open(self.config, "rb") as stream:
                os.fsync(stream.fileno())
            sync_folder(self.config.parent)
        except (ToolError, OSError) as reason:
            raise CannotWrite(
                f"{self.config} could not be made anew: {reason}",
                "See what is wrong with `update-grub`, then run the same command again.",
            ) from None

    def why_read_only(self) -> str | None:
        """Why GRUB itself cannot write to its environment block; None: it can."""
        folder = str(self.env.parent)
        below = run("grub-probe", "--target=abstraction", folder).split()
        for each in below:
            if each in {"diskfilter", "lvm", "mdraid09", "mdraid1x", "luks", "luks2", "cryptodisk"}:
                return f"it lies on {each}"
        kind = run("grub-probe", "--target=fs", folder).strip()
        return f"its file system is {kind}" if kind in _READ_ONLY else None
