# SPDX-License-Identifier: GPL-3.0-or-later
"""/etc/fstab and /etc/crypttab of the copy. Pure: text in, text out, all formatting kept."""

import re
from typing import Final

from builder.fixup.names import TAGS, Names
from core.machine.escapes import from_octal

PATIENCE: Final = "x-systemd.device-timeout=10s"
"""How long the copy waits for a file system that is not in the set."""

NOT_HERE: Final = "# not on this copy: "
_OWN_SWAP: Final = ("/dev/zram", "/dev/mapper/")
"""Swap in memory, and mappings, which crypttab decides about."""
_REFORMATTING: Final = frozenset({"swap", "tmp"})
"""Options of crypttab that make a new swap area or file system at each start."""

_LINE: Final = re.compile(r"^(\s*)([^\s#]\S*)(\s+)(\S+)(\s+)(\S+)(?:(\s+)(\S+))?(.*)$")


def fix_fstab(text: str, names: Names) -> str:
    """The fstab of the copy: slots instead of volumes, no waiting for what is not in the set."""
    lines = text.split("\n")
    absent = _absent_mountpoints(lines, names)
    return "\n".join(_fstab_line(line, names, absent) for line in lines)


def _fstab_line(line: str, names: Names, absent: tuple[str, ...]) -> str:
    found = _LINE.match(line)
    if found is None:
        return names.substitute(line)
    indent, spec, gap1, place, gap2, fstype, gap3, options, rest = found.groups("")
    options = names.substitute(options)
    plain = _unescape(spec)
    quote = spec[0] if spec[0] in "\"'" else ""
    if (new := names.rename(plain)) is not None:
        spec = f"{quote}{new}{quote}"
    elif fstype == "swap" and _waits(plain, options, names) and not plain.startswith(_OWN_SWAP):
        return f"{NOT_HERE}{line}"  # beside the primary, the copy would write to the primary's swap
    elif _waits(plain, options, names) or _below(plain, absent):
        options = _patient(options or "defaults")
        gap3 = gap3 or "\t"
    return f"{indent}{spec}{gap1}{place}{gap2}{fstype}{gap3}{options}{names.substitute(rest)}"


def _absent_mountpoints(lines: list[str], names: Names) -> tuple[str, ...]:
    """Where file systems that are not in the set are mounted."""
    found = []
    for line in lines:
        if (match := _LINE.match(line)) is not None:
            _, spec, _, place, _, _, _, options, _ = match.groups("")
            plain = _unescape(spec)
            if names.find(plain) is None and _waits(plain, options, names):
                found.append(_unescape(place))
    return tuple(place for place in found if place.startswith("/") and place != "/")


def _waits(spec: str, options: str, names: Names) -> bool:
    """Whether the boot would wait for `spec`, a device that the copy does not have."""
    if names.is_new(spec) or names.find(spec) is not None or "noauto" in options.split(","):
        return False
    return spec.startswith("/dev/") or spec.partition("=")[0] in TAGS


def _below(spec: str, absent: tuple[str, ...]) -> bool:
    """Whether a bind mount or swap file lies on a file system that may be absent."""
    return any(spec == place or spec.startswith(f"{place}/") for place in absent)


def _patient(options: str) -> str:
    given = options.split(",")
    extra = [] if "nofail" in given else ["nofail"]
    if not any(option.startswith("x-systemd.device-timeout=") for option in given):
        extra.append(PATIENCE)
    return ",".join((*given, *extra))


def _unescape(word: str) -> str:
    return from_octal(word).replace('"', "").replace("'", "")


def fix_crypttab(text: str, names: Names) -> str:
    """The copy's crypttab: mappings whose content lies in a slot go, others do not wait."""
    return "\n".join(_crypttab_line(line, names) for line in text.split("\n"))


def _crypttab_line(line: str, names: Names) -> str:
    words = line.split()
    if not words or words[0].startswith("#") or len(words) < 2:
        return names.substitute(line)
    name, source = words[0], words[1]
    key = words[2] if len(words) > 2 else "none"
    options = words[3] if len(words) > 3 else ""
    if names.find(f"/dev/mapper/{name}") is not None:
        return ""  # that file system lies in a slot of its own, without a mapping
    if (new := names.rename(source)) is not None:
        return names.substitute(line.replace(source, new, 1))
    if names.is_new(source) or not _waits(source, options, names):
        return line
    if any(option.partition("=")[0] in _REFORMATTING for option in options.split(",")):
        return f"{NOT_HERE}{line}"
    return "\t".join((name, source, key, _patient(options) if options else f"nofail,{PATIENCE}"))
