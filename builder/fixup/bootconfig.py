# SPDX-License-Identifier: GPL-3.0-or-later
"""What boots the copy: GRUB's files, kernel command lines, resume. Pure: text in, text out."""

import re
from typing import Final

from builder.fixup.names import Names

GRUB_DEFAULTS: Final = """\
# Written by dpsr: this system is a copy on a DPSR disk. `update-grub` here must not look at other
# disks (the primary may be among them), nor name this one by names that change between boots.
GRUB_DISABLE_OS_PROBER=true
GRUB_DISABLE_LINUX_UUID=false
GRUB_DISABLE_LINUX_PARTUUID=true
"""
"""Content of /etc/default/grub.d/zz-dpsr-copy.cfg."""

ENVBLOCK: Final = 1024
"""Size of GRUB's environment block."""

_OWN_SECTION: Final = re.compile(
    r"^### BEGIN (/etc/grub\.d/\d+_dpsr\S*) ###\n.*?^### END \1 ###\n", re.MULTILINE | re.DOTALL
)
_OUR_DEFAULT: Final = re.compile(r'set default="dpsr[\w-]*"')
"""`dpsr switch dpsr` was given: on the copy there is no such entry."""
_OUR_NEXT: Final = re.compile(r"^next_entry=dpsr[\w-]*\n", re.MULTILINE)
_HINTED: Final = re.compile(
    r"^[ \t]*if \[ x\$feature_platform_search_hint = xy \]; then\n"
    r"[ \t]*search [^\n]*\n[ \t]*else\n([ \t]*search [^\n]*\n)[ \t]*fi\n",
    re.MULTILINE,
)
_ROOT_BEFORE_SEARCH: Final = re.compile(
    r"^[ \t]*set root=['\"]?\(?[\w/,.-]+\)?['\"]?[ \t]*\n(?=[ \t]*search )", re.MULTILINE
)
_HINT: Final = re.compile(r"[ \t]+--hint(?:-\w+)?(?:=|[ \t]+)(?:'[^'\n]*'|\"[^\"\n]*\"|\S+)")
_SEARCH: Final = re.compile(r"^[ \t]*search\b[^\n]*$", re.MULTILINE)
_BY_LABEL: Final = re.compile(r"(?<!\S)(?:--label|-l)(?!\S)")
_SHORT_SEARCH: Final = re.compile(
    r"^(?P<indent>[ \t]*)search\.(?P<how>fs_uuid|fs_label)[ \t]+(?P<what>\S+)"
    r"[ \t]+(?P<var>\w+)[^\n]*$",
    re.MULTILINE,
)
_RESUME: Final = re.compile(r"(?<![\w.-])resume=(\"[^\"]*\"|'[^']*'|[^\s\"']+)")
_RESUME_LINE: Final = re.compile(r"^([ \t]*(?:export[ \t]+)?RESUME=)(.*)$", re.MULTILINE)


def fix_grub_cfg(text: str, names: Names) -> str:
    """A grub.cfg (or the stub on the ESP) of the copy.

    File systems are found by their new UUID alone: a hint like `hd0,gpt2` is the primary when a
    search fails. The entries that dpsr adds to the primary's menu are left out.
    """
    text = _OWN_SECTION.sub("", text)
    text = _OUR_DEFAULT.sub('set default="0"', text)
    text = _HINTED.sub(r"\1", text)
    text = _SEARCH.sub(lambda found: _search(found.group(0), names), text)
    text = _SHORT_SEARCH.sub(lambda found: _short_search(found, names), text)
    text = _ROOT_BEFORE_SEARCH.sub("", text)
    return fix_command_lines(text, names)


def _search(line: str, names: Names) -> str:
    line = _HINT.sub("", line)
    words = line.split()
    pair = names.find(f"LABEL={words[-1]}") if _BY_LABEL.search(line) else None
    if pair is None:
        return line
    line = _BY_LABEL.sub("--fs-uuid", line)
    return line[: line.rindex(words[-1])] + pair.new.uuid


def _short_search(found: re.Match[str], names: Names) -> str:
    how, what = found["how"], found["what"]
    if how == "fs_label" and (pair := names.find(f"LABEL={what}")) is not None:
        how, what = "fs_uuid", pair.new.uuid
    return f"{found['indent']}search.{how} {what} {found['var']}"


def fix_command_lines(text: str, names: Names) -> str:
    """Kernel command lines, wherever they stand: new names, no resuming from what is not ours."""
    return _RESUME.sub(lambda found: _resume(found, names), names.substitute(text))


def _resume(found: re.Match[str], names: Names) -> str:
    return found.group(0) if names.is_new(found[1]) or "$" in found[1] else "noresume"


def fix_resume(text: str, names: Names) -> str:
    """initramfs-tools' `RESUME=…`: the copy's swap, or none; never the primary's."""

    def line(found: re.Match[str]) -> str:
        value = found[2].strip().strip("\"'")
        if value.lower() in {"", "none", "auto"} or names.is_new(value):
            return found.group(0)
        return f"{found[1]}none"

    return _RESUME_LINE.sub(line, names.substitute(text))


def fix_grubenv(data: bytes, names: Names) -> bytes:
    """GRUB's environment block: menu entries carry UUIDs in their ids. Stays 1,024 bytes long."""
    text = data.decode("utf-8", "surrogateescape")
    fixed = _OUR_NEXT.sub("", names.substitute(text))
    if fixed == text:
        return data
    raw = fixed.rstrip("#").encode("utf-8", "surrogateescape")
    return raw[:ENVBLOCK].ljust(max(ENVBLOCK, len(data)), b"#")


def fix_mdadm(text: str, names: Names) -> str:
    """mdadm.conf: arrays whose file systems lie in slots of their own are not assembled."""

    def line(one: str) -> str:
        words = one.split()
        gone = len(words) > 1 and words[0].upper() == "ARRAY" and names.find(words[1]) is not None
        return "# (an array of the primary, not on this copy)" if gone else one

    return names.substitute("\n".join(line(one) for one in text.split("\n")))
