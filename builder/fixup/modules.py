# SPDX-License-Identifier: GPL-3.0-or-later
"""Initrds of the copy that lack the driver of a disk controller get it, with all it needs.

An initrd made with `MODULES=dep` knows only the controller that the primary had when it was made;
the copy may wake up on another. Rebuilding it would take minutes and change tens of megabytes; the
missing modules are appended instead, with a module index over old and new together.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from builder.fixup import initrd
from builder.fixup.cpio import walk
from builder.fixup.initrd import Initrd, module_name
from builder.fixup.inside import inside, matching, put
from builder.fixup.names import Names
from core.run import run

COMMON: Final = (
    "ahci", "nvme", "sd_mod", "uas", "usb_storage", "virtio_blk", "virtio_pci", "virtio_scsi",
    "xhci_pci",
)  # fmt: skip
"""What most disks hang on, besides what the plan names: the copy may be put into another bay."""

HOOK: Final = "etc/initramfs-tools/hooks/dpsr-drivers"

_INDEXES: Final = (
    "modules.alias", "modules.alias.bin", "modules.dep", "modules.dep.bin", "modules.devname",
    "modules.softdep", "modules.symbols", "modules.symbols.bin",
)  # fmt: skip
_LISTS: Final = ("modules.builtin", "modules.builtin.modinfo", "modules.order")
_HOOK_TEXT: Final = """\
#!/bin/sh
# Written by dpsr: initrds that are made on this copy know the disk controllers that it may meet.
if [ "$1" = prereqs ]; then exit 0; fi
. /usr/share/initramfs-tools/hook-functions
manual_add_modules {}
"""
_POLICY: Final = re.compile(r"^\s*MODULES=[\"']?(\w+)", re.MULTILINE)


def fix_initrd(
    path: Path, root: Path, names: Names, drivers: Iterable[str], scratch: Path
) -> tuple[bool, list[str]]:
    """Give one initrd of the copy at `root` new names and missing drivers.

    Returns whether it changed, and sentences about drivers that its kernel does not have.
    `scratch`: an empty folder, empty again afterwards. Raises FixupFailed.
    """
    found = initrd.look(path)
    files = initrd.overrides(found.texts, names)
    folders: tuple[str, ...] = ()
    notes: list[str] = []
    version = found.folder.rpartition("/")[2]
    library = inside(root, f"lib/modules/{version}") if version else None
    if library is not None:
        known = _dependencies(library)
        built_in = _built_in(library)
        have = built_in | set(found.modules)
        missing = [name for name in dict.fromkeys((*drivers, *COMMON)) if name not in have]
        notes = [
            f"Its kernel {library.name} has no driver {name}." for name in missing
            if name in set(drivers) and name not in known
        ]  # fmt: skip
        wanted = closure([name for name in missing if name in known], known)
        wanted = {name: file for name, file in wanted.items() if name not in found.modules}
        if wanted:
            files |= _with_modules(path, found, library, wanted, scratch)
            folders = _folders(found.folder, wanted.values())
    content = initrd.part(found.length, files, folders) if files else b""
    return initrd.set_part(path, found.length, content), notes


def closure(names: Iterable[str], known: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """The modules `names` and all they depend on: name to file, as `modules.dep` has them.

    `known`: name to its own file and those it needs, all the way down.
    """
    return {
        module_name(file): file for name in names for file in known.get(name, ())
    }  # modules.dep lists indirect dependencies too


def parse_dependencies(text: str) -> dict[str, tuple[str, ...]]:
    """`modules.dep`: each module's name to its file and the files that it needs."""
    found = {}
    for line in text.splitlines():
        file, _, needs = line.partition(":")
        if file:
            found[module_name(file)] = (file, *needs.split())
    return found


def fix_hook(root: Path, drivers: Iterable[str]) -> bool:
    """Let initrds that are made on the copy have the drivers too, where they would be picked.

    False when there was nothing to do.
    """
    if inside(root, "etc/initramfs-tools/hooks") is None:
        return False
    policy = "most"
    for pattern in ("etc/initramfs-tools/initramfs.conf", "etc/initramfs-tools/conf.d/*"):
        for path in matching(root, pattern):
            for said in _POLICY.findall(path.read_text("utf-8", "replace")):
                policy = said
    if policy == "most":
        return False
    text = _HOOK_TEXT.format(" ".join(sorted({*COMMON, *drivers})))
    return put(root, HOOK, text.encode(), 0o755)


def _dependencies(library: Path) -> dict[str, tuple[str, ...]]:
    path = library / "modules.dep"
    return parse_dependencies(path.read_text("utf-8")) if path.is_file() else {}


def _built_in(library: Path) -> set[str]:
    path = library / "modules.builtin"
    lines = path.read_text("utf-8").splitlines() if path.is_file() else []
    return {module_name(line) for line in lines}


def _with_modules(
    path: Path, found: Initrd, library: Path, wanted: Mapping[str, str], scratch: Path
) -> dict[str, bytes]:
    """The missing modules, and the index over what was there and what comes, as files to append."""
    version = library.name
    (scratch / "usr/lib").mkdir(parents=True)
    (scratch / "lib").symlink_to("usr/lib")  # Debian 12's depmod looks in lib, others in usr/lib
    stage = scratch / "usr/lib/modules" / version
    added = {file: (library / file).read_bytes() for file in wanted.values()}
    try:
        for name, content in _modules_of(path, found):
            _write(stage / name.removeprefix(f"{found.folder}/"), content)
        for file, content in added.items():
            _write(stage / file, content)
        for name in _LISTS:
            if (library / name).is_file():
                _write(stage / name, (library / name).read_bytes())
        run("depmod", "-b", str(scratch), version)
        index = {name: (stage / name).read_bytes() for name in _INDEXES if (stage / name).is_file()}
    finally:
        _empty(scratch)
    return {f"{found.folder}/{name}": content for name, content in (added | index).items()}


def _modules_of(path: Path, found: Initrd) -> Iterable[tuple[str, bytes]]:
    files = set(found.modules.values())
    for entry, content in walk(path, lambda entry: entry.name in files, found.length):
        if entry.name in files:
            yield entry.name, content


def _folders(prefix: str, files: Iterable[str]) -> tuple[str, ...]:
    """Every folder between `prefix` and the files, outer ones first."""
    found = set()
    for file in files:
        parts = file.split("/")[:-1]
        found |= {"/".join((prefix, *parts[: n + 1])) for n in range(len(parts))}
    return tuple(sorted(found))


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _empty(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink()
