# SPDX-License-Identifier: GPL-3.0-or-later
"""The initrds of the copy: a small archive at the end of each overrides what names the primary.

The part lies at a multiple of 512 bytes and ends with a file `dpsr-part`, which says how long the
initrd was before, so that a second run finds and replaces it.
"""

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from builder.fixup.bootconfig import fix_mdadm, fix_resume
from builder.fixup.cpio import Entry, archive, walk
from builder.fixup.names import Names

MARK: Final = "dpsr-part"
_ALIGNED: Final = 512
_TAIL: Final = 2048
_TEXTS: Final = ("conf/", "cryptroot/", "etc/")
_MOST: Final = 256 * 1024
"""Size of the largest text that is looked into."""
_MODULE: Final = re.compile(r"^((?:usr/)?lib/modules/[^/]+)/(.+)/([^/]+)\.ko(?:\.\w+)?$")


@dataclass(frozen=True, slots=True)
class Initrd:
    """What an initrd holds, as far as it matters here."""

    length: int
    """Bytes of it that are not ours."""
    texts: Mapping[str, bytes]
    """Configuration files by name, as the kernel leaves them."""
    modules: Mapping[str, str]
    """Kernel modules (`virtio_blk`) and the file of each."""
    folder: str
    """`usr/lib/modules/VERSION`, empty when it has no modules."""


def module_name(file_name: str) -> str:
    """The name of a module as the kernel knows it: `kernel/…/sd-mod.ko.xz` is `sd_mod`."""
    return file_name.rpartition("/")[2].partition(".ko")[0].replace("-", "_")


def own_part(path: Path) -> int | None:
    """Length of the initrd before our part was appended; None when it has none."""
    with path.open("rb") as stream:
        stream.seek(0, os.SEEK_END)
        stream.seek(max(0, stream.tell() - _TAIL))
        tail = stream.read()
    found = re.search(rb"070701[0-9A-F]{104}" + MARK.encode() + rb"\0+(\d+)\n\0*070701", tail)
    return int(found[1]) if found else None


def look(path: Path, *, with_own_part: bool = False) -> Initrd:
    """Read an initrd. Raises FixupFailed."""
    before = own_part(path)
    length = path.stat().st_size if before is None else before
    texts: dict[str, bytes] = {}
    modules: dict[str, str] = {}
    folder = ""
    for entry, content in walk(path, _is_text, None if with_own_part else length):
        texts.pop(entry.name, None)
        if _is_text(entry):
            texts[entry.name] = content
        elif entry.is_file and (found := _MODULE.match(entry.name)):
            folder = found[1]
            modules[module_name(entry.name)] = entry.name
    return Initrd(length, texts, modules, folder)


def _is_text(entry: Entry) -> bool:
    return entry.is_file and entry.name.startswith(_TEXTS) and entry.size <= _MOST


def overrides(texts: Mapping[str, bytes], names: Names) -> dict[str, bytes]:
    """The texts that must be different on the copy, by name."""
    changed = {}
    for name, content in texts.items():
        text = content.decode("utf-8", "surrogateescape")
        fixed = _fixed(name, text, names).encode("utf-8", "surrogateescape")
        if fixed != content:
            changed[name] = fixed
    return changed


def _fixed(name: str, text: str, names: Names) -> str:
    if name == "cryptroot/crypttab":
        return ""  # slots are plain partitions: nothing is unlocked to reach them
    if name == "etc/dpsr/hidden":
        return ""  # the copy's own disk is among those that the primary hides
    if name.startswith("conf/"):
        return fix_resume(text, names)
    if name.endswith("mdadm.conf"):
        text = fix_mdadm(text, names)
    return names.substitute(text)


def part(length: int, files: Mapping[str, bytes], folders: tuple[str, ...] = ()) -> bytes:
    """The archive to append to an initrd of `length` bytes, padded on both sides.

    `folders` are made before the files; they must not be links in the initrd.
    """
    entries = [(name, stat.S_IFDIR | 0o755, b"") for name in folders]
    entries += [(name, stat.S_IFREG | 0o644, files[name]) for name in sorted(files)]
    entries.append((MARK, stat.S_IFREG | 0o644, b"%d\n" % length))
    # At least four zeros: by them the kernel sees that an lz4 stream has ended.
    padding = 4 + -(length + 4) % _ALIGNED
    packed = archive(entries)
    return b"\0" * padding + packed + b"\0" * (-len(packed) % _ALIGNED)


def set_part(path: Path, length: int, content: bytes) -> bool:
    """Let `content` be all that follows byte `length`; False when it was so already."""
    with path.open("r+b") as stream:
        stream.seek(0, os.SEEK_END)
        if stream.tell() - length == len(content):
            stream.seek(length)
            if stream.read() == content:
                return False
        stream.truncate(length)
        stream.seek(length)
        stream.write(content)
    return True
