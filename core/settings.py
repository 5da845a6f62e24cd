# SPDX-License-Identifier: GPL-3.0-or-later
"""/etc/dpsr/dpsr.toml: which DPSR disks there are, and how backups are to behave.

`prepare` writes it, people may edit it. A key that nobody knows and a value that makes no sense
are errors that name their line. What programs find out about runs is in `core.record`.
"""

import re
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from core.errors import BadSettings, NotPrepared
from core.files import write_durably
from core.model.plain import Misfit, from_plain

if TYPE_CHECKING:
    from core.model.copy import Plan

PATH: Final = Path("/etc/dpsr/dpsr.toml")
_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}"


@dataclass(frozen=True, slots=True)
class VolumeSettings:
    """One volume and its slot."""

    mountpoint: str
    fstype: str
    uuid: str
    """Of the primary's file system."""
    slot: str
    slot_number: int
    slot_uuid: str
    slot_guid: str
    """GUID of the slot's partition."""


@dataclass(frozen=True, slots=True)
class BackupSet:
    """One DPSR disk: how it is known, and what it holds."""

    name: str
    serial: str
    wwn: str
    guid: str
    model: str
    size: int
    state_offset: int
    """Where on the whole disk the state block begins, in bytes."""
    control_guid: str
    control_uuid: str
    vault_guid: str
    volume: tuple[VolumeSettings, ...] = ()
    exclude: tuple[str, ...] = ()
    """Mount points that were to be left out."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole file. Times in seconds."""

    quiet_for: float = 5.0
    quiet_wait: float = 60.0
    max_freeze: float = 2.0
    tracker_buffer: int = 32
    """MiB."""
    max_change: int = 30
    """Percent."""
    before_freeze: str = ""
    after_thaw: str = ""
    hook_seconds: float = 30.0
    drill_check: str = ""
    hide: bool = True
    sets: tuple[BackupSet, ...] = ()

    def named(self, name: str) -> BackupSet:
        """The backup set called `name`. Raises NotPrepared."""
        for backup_set in self.sets:
            if backup_set.name == name:
                return backup_set
        raise NotPrepared(f"No DPSR disk is recorded under the name {name}.")

    def with_set(self, new: BackupSet) -> "Settings":
        """These settings with `new`, and without the sets that had its name or its disk."""
        others = tuple(
            known
            for known in self.sets
            if known.name != new.name and (known.serial, known.wwn) != (new.serial, new.wwn)
        )
        return replace(self, sets=(*others, new))

    def without_set(self, name: str) -> "Settings":
        """These settings without the set called `name`."""
        return replace(self, sets=tuple(known for known in self.sets if known.name != name))


_OPTIONS: Final = (
    ("quiet_for", 0.0, 600.0, "A backup waits until nothing was written for this many seconds,"),
    ("quiet_wait", 0.0, 86400.0, "but no longer than this many."),
    ("max_freeze", 0.2, 30.0, "Longest time, in seconds, that writers may have to wait."),
    ("tracker_buffer", 1, 1024, "Memory for the kernel's record of writes during a run, in MiB."),
    ("max_change", 1, 100, "A backup that would change more than this percentage stops and asks."),
    ("hook_seconds", 1.0, 3600.0, "A command below that takes longer, in seconds, is stopped."),
)
"""Name, least, most, and what it means."""

_HOOKS: Final = (
    ("before_freeze", "Command (/bin/sh, as root) before each freeze: bring databases to rest."),
    ("after_thaw", "Command after each thaw, even when before_freeze failed: let them go on."),
    (
        "drill_check",
        "A script that `dpsr drill` runs in the copy: not 0 at its end fails the drill.",
    ),
)

_SWITCHES: Final = (
    ("hide", "Detach the DPSR disk from this system between two runs; false: it stays in sight."),
)

_WHAT: Final = {
    "serial": "The disk is found by these three, and only that disk is ever written.",
    "model": "For people.",
    "state_offset": "Where it keeps its own records: written by `dpsr prepare`, not to be edited.",
    "exclude": "Mount points that are left out; `dpsr prepare --again` goes by it.",
}


def is_name(name: str) -> bool:
    """Whether a backup set may be called so: its name is a key here and the name of files."""
    return re.fullmatch(_NAME, name) is not None


def load(path: Path = PATH) -> Settings:
    """Read the settings; those of a machine without any when there is no file yet.

    Raises BadSettings.
    """
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return Settings()
    except (OSError, UnicodeError) as reason:
        raise BadSettings(f"{path} cannot be read: {reason}.") from None
    return parse(text, str(path))


def save(settings: Settings, path: Path = PATH) -> None:
    """Write the settings, whole or not at all."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    write_durably(path, render(settings).encode())


def set_of(plan: "Plan", state_offset: int) -> BackupSet:
    """What is recorded of the disk that `plan` has prepared."""
    volumes = []
    for volume in plan.volumes:
        slot = plan.slot_of(volume)
        volumes.append(
            VolumeSettings(
                mountpoint=volume.mountpoint,
                fstype=volume.fstype,
                uuid=volume.identity.uuid,
                slot=slot.name,
                slot_number=slot.number,
                slot_uuid=slot.identity.uuid,
                slot_guid=slot.identity.partuuid,
            )
        )
    return BackupSet(
        name=plan.name,
        serial=plan.serial,
        wwn=plan.wwn,
        guid=plan.disk_guid,
        model=plan.model,
        size=plan.disk_size,
        state_offset=state_offset,
        control_guid=plan.control.identity.partuuid,
        control_uuid=plan.control.identity.uuid,
        vault_guid=plan.vault.identity.partuuid,
        exclude=plan.exclude,
        volume=tuple(volumes),
    )


def parse(text: str, where: str = str(PATH)) -> Settings:
    """Read the text of dpsr.toml; `where` is for the sentence. Raises BadSettings."""
    import tomllib

    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as reason:
        raise BadSettings(f"{where} is no TOML: {reason}.") from None
    tables = data.pop("set", {})
    try:
        if not isinstance(tables, dict):
            raise Misfit("settings.set", "not a table")  # noqa: TRY301 - one sentence for all
        if "sets" in data:
            raise Misfit("settings", "unknown key 'sets'", "sets")  # noqa: TRY301
        settings = from_plain(Settings, data)
        sets = tuple(_set(name, table) for name, table in tables.items())
    except Misfit as misfit:
        path = re.findall(r"[^.\[\]]+", misfit.where)[1:]
        line = line_of(text, path)
        raise BadSettings(f"{where}, line {line}: {misfit.what}.") from None
    for name, least, most, _ in _OPTIONS:
        if not least <= getattr(settings, name) <= most:
            raise BadSettings(
                f"{where}, line {line_of(text, [name])}: {name} must be from {least} to {most}."
            )
    for name, _ in _HOOKS:
        if "\0" in getattr(settings, name):
            raise BadSettings(f"{where}, line {line_of(text, [name])}: {name} is no command.")
    return replace(settings, sets=sets)


def render(settings: Settings) -> str:
    """The text of dpsr.toml, with comments."""
    lines = [
        "# Settings of dpsr. An unknown key or a bad value is an error that names its line.",
        "",
    ]
    options = ((name, meaning) for name, _, _, meaning in _OPTIONS)
    for name, meaning in (*options, *_HOOKS, *_SWITCHES):
        lines += [f"# {meaning}", f"{name} = {_toml(getattr(settings, name))}"]
    for backup_set in settings.sets:
        lines += ["", f"[set.{backup_set.name}]"]
        for field in fields(backup_set):
            if field.name in {"name", "volume"}:
                continue
            if field.name in _WHAT:
                lines.append(f"# {_WHAT[field.name]}")
            lines.append(f"{field.name} = {_toml(getattr(backup_set, field.name))}")
        for volume in backup_set.volume:
            lines += ["", f"[[set.{backup_set.name}.volume]]"]
            lines += [f"{f.name} = {_toml(getattr(volume, f.name))}" for f in fields(volume)]
    return "\n".join(lines) + "\n"


def line_of(text: str, path: list[str]) -> int:
    """The line (from 1) where the key `path` (`["set", "system", "volume", "0", "uuid"]`) stands.

    Where it does not stand, the line of the table that it belongs to.
    """
    here: list[str] = []
    best, best_depth = 1, -1
    counts: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*(\[\[?)\s*([^\]]+?)\s*\]", line):
            here = [part.strip().strip("\"'") for part in header[2].split(".")]
            if header[1] == "[[":
                index = counts.get(header[2], 0)
                counts[header[2]] = index + 1
                here.append(str(index))
        elif not re.match(r"\s*[^#\s]", line):
            continue
        key = re.match(r"\s*([\w\"'.-]+?)\s*=", line)
        full = here + ([part.strip("\"'") for part in key[1].split(".")] if key else [])
        if full == path[: len(full)] and len(full) > best_depth:
            best, best_depth = number, len(full)
    return best


def _set(name: str, table: Any) -> BackupSet:
    where = f"settings.set.{name}"
    if not is_name(name):
        raise Misfit(where, f"a set cannot be called {name!r}")
    if not isinstance(table, dict):
        raise Misfit(where, "not a table")
    if "name" in table:
        raise Misfit(where, "unknown key 'name'", "name")
    try:
        return from_plain(BackupSet, {"name": name, **table})
    except Misfit as misfit:
        inner = misfit.where.partition(".")[2]
        raise Misfit(where, misfit.what, inner) from None


def _toml(value: str | float | tuple[str, ...]) -> str:
    """A TOML value."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, str):
        plain = "".join(
            char
            if (" " <= char <= "~" and char not in '"\\') or char >= "\xa0"
            else f"\\u{ord(char):04x}"
            for char in value
        )
        return f'"{plain}"'
    return str(value)
