# SPDX-License-Identifier: GPL-3.0-or-later
"""Gives a mounted copy its own names: every file that boots it or mounts its file systems."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from builder.fixup import bootconfig, debconf, efi, initrd, modules, tables
from builder.fixup.inside import inside, matching, put, replace_content
from builder.fixup.names import Names
from core.errors import OldIdentityRemains

Fix = Callable[[str, Names], str]

COPY_DEFAULTS: Final = "etc/default/grub.d/zz-dpsr-copy.cfg"
HIDDEN: Final = "etc/dpsr/hidden"
"""Which disks the primary hides, the copy's own among them. Its initrds may have the list, too."""
MARKER: Final = "etc/dpsr/copy.json"
"""Says on the copy that it is one, and what was renamed to what."""


def _plain(text: str, names: Names) -> str:
    return names.substitute(text)


def _as_is(text: str, _names: Names) -> str:
    """For units whose own file name has the device in it: an old name in one is an error."""
    return text


ESPS: Final = ("boot/efi", "efi", "boot")
"""Where an ESP may be mounted."""
_ENDS: Final = ("efi", "EFI")

TEXTS: Final[tuple[tuple[str, Fix], ...]] = (
    ("etc/fstab", tables.fix_fstab),
    ("etc/crypttab", tables.fix_crypttab),
    ("etc/default/grub", bootconfig.fix_command_lines),
    ("etc/default/grub.d/*", bootconfig.fix_command_lines),
    ("etc/kernel/cmdline", bootconfig.fix_command_lines),
    ("etc/kernel/*.conf", _plain),
    ("etc/cmdline.d/*", bootconfig.fix_command_lines),
    ("etc/dracut.conf", bootconfig.fix_command_lines),
    ("etc/dracut.conf.d/*", bootconfig.fix_command_lines),
    ("etc/initramfs-tools/initramfs.conf", bootconfig.fix_resume),
    ("etc/initramfs-tools/conf.d/*", bootconfig.fix_resume),
    ("etc/mdadm/mdadm.conf", bootconfig.fix_mdadm),
    ("etc/mdadm.conf", bootconfig.fix_mdadm),
    ("etc/systemd/system/*.mount", _plain),
    ("etc/systemd/system/*.automount", _plain),
    ("etc/systemd/system/*.swap", _as_is),
    ("etc/grub.d/*_custom", bootconfig.fix_grub_cfg),
    ("boot/grub/grub.cfg", bootconfig.fix_grub_cfg),
    ("boot/grub/custom.cfg", bootconfig.fix_grub_cfg),
    ("boot/grub/*/load.cfg", _plain),
    *((f"{esp}/EFI/*/grub.cfg", bootconfig.fix_grub_cfg) for esp in ESPS),
    *((f"{esp}/loader/entries/*.conf", bootconfig.fix_command_lines) for esp in ESPS),
    *((f"{esp}/EFI/*/*.conf", bootconfig.fix_command_lines) for esp in ESPS),
)
"""What is edited, and how. Only what boots the system or mounts its file systems is looked at."""

INITRDS: Final = ("boot/initr*", "boot/*/*/initrd*", "boot/efi/*/*/initrd*", "efi/*/*/initrd*")
PROGRAMS: Final = ("boot/grub/*/*.efi",)
ESP_PROGRAMS: Final = (*PROGRAMS, *(f"{esp}/EFI/*/*.{end}" for esp in ESPS for end in _ENDS))
"""Of a clone, whose own ESP the firmware starts. A slot's ESP is for the copy's GRUB packages:
nothing starts what is in it, and its programs stay those of the primary, byte for byte."""
_CONFIG_DAT: Final = "var/cache/debconf/config.dat"


@dataclass(frozen=True, slots=True)
class Edited:
    """What was done to a tree: files as the copy names them (`/etc/fstab`), notes for people."""

    files: tuple[str, ...]
    notes: tuple[str, ...]


def fix_tree(
    root: Path,
    names: Names,
    drivers: tuple[str, ...],
    scratch: Path,
    marker: bytes = b"",
    programs: tuple[str, ...] = PROGRAMS,
) -> Edited:
    """Edit the copy that is mounted at `root`, with its /boot and the rest mounted below.

    `drivers`: modules that each initrd must have, as far as its kernel has them. `scratch`: an
    empty folder for the work on initrds. `programs`: EFI programs that are looked into. Nothing
    changes when it was done before. Raises FixupFailed; OldIdentityRemains when a file still names
    the primary.
    """
    files = [
        *_fix_texts(root, names), *_fix_grubenv(root, names), *_fix_grub_packages(root),
        *_fix_answers(root), *_fix_programs(root, names, programs),
    ]  # fmt: skip
    if marker and put(root, MARKER, marker):
        files.append(f"/{MARKER}")
    if (listed := inside(root, HIDDEN)) is not None:
        listed.unlink()
        files.append(f"/{HIDDEN}")
    notes: list[str] = []
    for path in initrds(root):
        changed, said = modules.fix_initrd(path, root, names, drivers, scratch)
        files += [_named(root, path)] if changed else []
        notes += said
    if modules.fix_hook(root, drivers):
        files.append(f"/{modules.HOOK}")
    if left := remaining(root, names, programs):
        raise OldIdentityRemains(f"The copy still names the primary: {'; '.join(left[:5])}.")
    return Edited(tuple(dict.fromkeys(files)), tuple(dict.fromkeys(notes)))


def remaining(root: Path, names: Names, programs: tuple[str, ...] = PROGRAMS) -> list[str]:
    """Each old name that is left in the copy, as `/etc/fstab: UUID=…`."""
    found = []
    for path, _ in _texts(root):
        text = path.read_bytes().decode("utf-8", "surrogateescape")
        found += [f"{_named(root, path)}: {name}" for name in names.remaining(text)]
    for path in matching(root, "boot/grub/grubenv"):
        text = path.read_bytes().decode("utf-8", "surrogateescape")
        found += [f"{_named(root, path)}: {name}" for name in names.remaining(text)]
    for path in initrds(root):
        for name, content in initrd.look(path, with_own_part=True).texts.items():
            text = content.decode("utf-8", "surrogateescape")
            found += [f"{_named(root, path)} ({name}): {old}" for old in names.remaining(text)]
    for pattern in programs:
        for path in matching(root, pattern):
            if (old := efi.old_name(path, names)) is not None:
                found.append(f"{_named(root, path)}: {old}")
    return found


def initrds(root: Path) -> list[Path]:
    """The initrds of the copy, each once, links to them not counted."""
    found = [path for pattern in INITRDS for path in matching(root, pattern)]
    return list(dict.fromkeys(path for path in found if path.stat().st_size > 0))


def _texts(root: Path) -> Iterator[tuple[Path, Fix]]:
    seen = set()
    for pattern, fix in TEXTS:
        for path in matching(root, pattern):
            if path not in seen:
                seen.add(path)
                yield path, fix


def _fix_texts(root: Path, names: Names) -> Iterator[str]:
    for path, fix in _texts(root):
        text = path.read_bytes().decode("utf-8", "surrogateescape")
        if replace_content(path, fix(text, names).encode("utf-8", "surrogateescape")):
            yield _named(root, path)


def _fix_grubenv(root: Path, names: Names) -> Iterator[str]:
    for path in matching(root, "boot/grub/grubenv"):
        if replace_content(path, bootconfig.fix_grubenv(path.read_bytes(), names)):
            yield _named(root, path)


def _fix_grub_packages(root: Path) -> Iterator[str]:
    """What `update-grub` and `grub-install` on the copy go by."""
    if inside(root, "etc/default/grub") is not None and put(
        root, COPY_DEFAULTS, bootconfig.GRUB_DEFAULTS.encode()
    ):
        yield f"/{COPY_DEFAULTS}"
    device_map = inside(root, "boot/grub/device.map")
    if device_map is not None:
        device_map.unlink()
        yield "/boot/grub/device.map"
    for path in matching(root, "etc/default/grub.d/zz-dpsr-[sg]*.cfg"):
        path.unlink()  # of `dpsr switch` and `dpsr guard`: about the primary's own menu
        yield _named(root, path)
    for path in matching(root, "etc/grub.d/*_dpsr*"):
        if path.stat().st_mode & 0o111:  # update-grub runs what may be executed
            path.chmod(path.stat().st_mode & ~0o111)
            yield _named(root, path)


def _fix_answers(root: Path) -> Iterator[str]:
    for path in matching(root, _CONFIG_DAT):
        text = path.read_bytes().decode("utf-8", "surrogateescape")
        installed = frozenset(
            name for name in debconf.OWNERS if inside(root, f"var/lib/dpkg/info/{name}.list")
        )
        fixed = debconf.fix_answers(text, installed)
        if replace_content(path, fixed.encode("utf-8", "surrogateescape")):
            yield _named(root, path)


def _fix_programs(root: Path, names: Names, programs: tuple[str, ...]) -> Iterator[str]:
    for pattern in programs:
        for path in matching(root, pattern):
            if efi.rename(path, names):
                yield _named(root, path)


def _named(root: Path, path: Path) -> str:
    return f"/{path.relative_to(root)}"
