# SPDX-License-Identifier: GPL-3.0-or-later
"""Which file systems are copied, which are left out, and what stands for swap. Pure."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import Final

from builder.plan.fstab import Entry, device_of, identity_from_spec, identity_of, normal
from builder.plan.guards import NEEDED, check_volume
from builder.plan.shape import Shape
from builder.plan.wish import Wish
from core.errors import NoSuchVolume, PrimaryNotSupported
from core.model.copy import Identity, SwapFile, Volume
from core.model.machine import Disk, Machine, Mount

_MUST_BE_MOUNTED: Final = ("/boot", "/usr", "/var")
"""Copied while mounted; without them the copy would start into nothing."""


@dataclass(frozen=True, slots=True)
class SwapArea:
    """A swap device of the primary, for which the copy gets a fresh one."""

    size: int
    identity: Identity


@dataclass(frozen=True, slots=True)
class Choice:
    """What is copied and what is not."""

    volumes: tuple[Volume, ...]
    """In the order in which they are mounted."""
    swaps: tuple[SwapArea, ...]
    swap_files: tuple[SwapFile, ...]
    left_out: tuple[Identity, ...]
    warnings: tuple[str, ...]
    exclude: tuple[str, ...] = ()
    """Mount points that were asked to be left out."""


def choose(machine: Machine, primary: Disk, wish: Wish, fstab: tuple[Entry, ...]) -> Choice:
    """The set that `wish` asks for.

    By default: what the system needs to start, and every file system of /etc/fstab that lies on
    the primary. Raises NoSuchVolume, CannotCopyFileSystem, PrimaryNotSupported.
    """
    mounted = _mounted(machine, fstab)
    chosen = _by_default(machine, primary, mounted, fstab)
    for wanted in map(normal, wish.volumes):
        chosen[wanted] = _added(machine, mounted, wanted)
    for unwanted in map(normal, wish.exclude):
        _refuse_exclusion(unwanted, chosen)
    excluded = set(map(normal, wish.exclude))
    kept = {place: mount for place, mount in chosen.items() if place not in excluded}
    choice = _choice(machine, primary, mounted, kept, excluded, fstab)
    unasked = _not_in_fstab(machine, primary, mounted, chosen)
    return replace(choice, warnings=(*choice.warnings, *unasked))


def choose_again(
    machine: Machine,
    primary: Disk,
    known: Collection[str],
    exclude: Collection[str],
    fstab: tuple[Entry, ...],
) -> tuple[Choice, Shape]:
    """The set whose mount points are `known`, as it is today, and what came and went since.

    `exclude`: mount points that were to be left out. Raises PrimaryNotSupported when one of the
    set is in /etc/fstab and not mounted, CannotCopyFileSystem.
    """
    mounted = _mounted(machine, fstab)
    today = _by_default(machine, primary, mounted, fstab)
    in_fstab = {entry.mountpoint for entry in fstab}
    away = [place for place in known if place not in mounted]
    if missing := [place for place in away if place in in_fstab]:
        raise PrimaryNotSupported(
            f"{missing[0]} is in /etc/fstab but not mounted. Nothing was written.",
            f"Mount it (`mount {missing[0]}`), then try again.",
        )
    kept = {place: mounted[place] for place in known if place in mounted}
    choice = _choice(machine, primary, mounted, kept, set(exclude), fstab)
    new = tuple(place for place in sorted(today) if place not in {*known, *exclude})
    return replace(choice, warnings=()), Shape(new=new, gone=tuple(sorted(away)))


def _by_default(
    machine: Machine, primary: Disk, mounted: dict[str, Mount], fstab: tuple[Entry, ...]
) -> dict[str, Mount]:
    """What the system needs to start, and what fstab has of the primary."""
    in_fstab = {entry.mountpoint for entry in fstab if entry.mountpoint}
    return {
        place: mount
        for place, mount in mounted.items()
        if place in NEEDED or (place in in_fstab and _lies_on(machine, mount.source, primary))
    }


def _choice(
    machine: Machine,
    primary: Disk,
    mounted: dict[str, Mount],
    kept: dict[str, Mount],
    excluded: set[str],
    fstab: tuple[Entry, ...],
) -> Choice:
    for _, mount in sorted(kept.items()):
        check_volume(machine, mount)
    _refuse_unmounted(fstab, mounted)
    volumes = tuple(_volume(machine, mount, fstab) for _, mount in sorted(kept.items()))
    swaps, swap_warnings = _swaps(machine, primary, fstab)
    taken = {path for volume in volumes for path in volume.identity.paths}
    taken.update(path for swap in swaps for path in swap.identity.paths)
    left_out, warnings = _left_out(machine, primary, fstab, taken, excluded)
    return Choice(
        volumes=volumes,
        swaps=tuple(swaps),
        swap_files=tuple(_swap_files(machine, volumes)),
        left_out=tuple(left_out),
        warnings=(*swap_warnings, *warnings),
        exclude=tuple(sorted(excluded)),
    )


def _mounted(machine: Machine, fstab: tuple[Entry, ...]) -> dict[str, Mount]:
    """Each mounted file system once, by the mount point that fstab (or the kernel) names first."""
    in_fstab = {entry.mountpoint for entry in fstab}
    first: dict[str, Mount] = {}
    for mount in machine.mounts:
        if mount.root != "/" or machine.mount_at(mount.mountpoint) != mount:
            continue  # a sub-folder, or hidden below another mount
        known = first.get(mount.source)
        if known is None or (mount.mountpoint in in_fstab and known.mountpoint not in in_fstab):
            first[mount.source] = mount
    return {mount.mountpoint: mount for mount in first.values()}


def _lies_on(machine: Machine, path: str, disk: Disk) -> bool:
    """Whether the device `path` is the disk, one of its partitions, or lies on one."""
    return machine.disk_of(path) == disk or any(
        holder.path == path for holder in machine.holders_of(disk)
    )


def _added(machine: Machine, mounted: dict[str, Mount], wanted: str) -> Mount:
    if wanted in mounted:
        return mounted[wanted]
    if (mount := machine.mount_at(wanted)) is not None:
        main = next(place for place, other in mounted.items() if other.source == mount.source)
        raise NoSuchVolume(
            f"{wanted} shows the same file system as {main}. Nothing was written.",
            f"Name it by {main}.",
        )
    raise NoSuchVolume(
        f"No local file system is mounted at {wanted}. Nothing was written.",
        "`findmnt --real` lists the file systems that can be copied: mount it, or name another.",
    )


def _refuse_exclusion(unwanted: str, chosen: dict[str, Mount]) -> None:
    if unwanted in NEEDED and unwanted in chosen:
        raise NoSuchVolume(
            f"{unwanted} cannot be left out: the copy would not start without it. "
            "Nothing was written."
        )
    if unwanted not in chosen:
        raise NoSuchVolume(
            f"{unwanted} is not in the set, so it cannot be left out. Nothing was written.",
            f"The set is: {', '.join(sorted(chosen))}.",
        )


def _refuse_unmounted(fstab: tuple[Entry, ...], mounted: dict[str, Mount]) -> None:
    for entry in fstab:
        if entry.mountpoint in _MUST_BE_MOUNTED and entry.mountpoint not in mounted:
            raise PrimaryNotSupported(
                f"{entry.mountpoint} is in /etc/fstab but not mounted. Nothing was written.",
                f"Mount it (`mount {entry.mountpoint}`), then try again.",
            )


def _volume(machine: Machine, mount: Mount, fstab: tuple[Entry, ...]) -> Volume:
    disk = machine.disk_of(mount.source)
    part = machine.partition(mount.source)
    if disk is None:
        raise AssertionError("check_volume has refused it")
    known = identity_of(machine, mount.source)
    for entry in fstab:
        # Names that udev does not make, such as /dev/root, are names of it all the same.
        if entry.mountpoint == mount.mountpoint and entry.spec.startswith("/dev/"):
            known = replace(known, paths=tuple(dict.fromkeys((*known.paths, entry.spec))))
    return Volume(
        mountpoint=mount.mountpoint,
        source=mount.source,
        dev=mount.dev,
        disk=disk.path,
        offset=part.start if part else 0,
        size=part.size if part else disk.size,
        fstype=mount.fstype,
        used=mount.used,
        block=mount.block,
        options=mount.options,
        identity=known,
    )


def _swaps(
    machine: Machine, primary: Disk, fstab: tuple[Entry, ...]
) -> tuple[list[SwapArea], list[str]]:
    """Swap devices on the primary: those in use, then those that fstab names besides."""
    active = [swap.path for swap in machine.swaps if swap.kind == "partition"]
    named = [device_of(machine, entry.spec) for entry in fstab if not entry.mountpoint]
    kinds = {holder.path: holder.kind for holder in machine.holders}
    sizes = {holder.path: holder.size for holder in machine.holders} | {
        part.path: part.size for part in primary.partitions
    }
    found, warnings = [], []
    for path in dict.fromkeys(path for path in (*active, *named) if path):
        if not _lies_on(machine, path, primary):
            continue
        if kinds.get(path, "").startswith("encrypted"):
            warnings.append(
                f"The swap on {kinds[path]} gets no slot: the copy's swap would be open."
            )
            continue
        found.append(SwapArea(sizes[path], identity_of(machine, path)))
    return found, warnings


def _swap_files(machine: Machine, volumes: tuple[Volume, ...]) -> Iterable[SwapFile]:
    places = {mount.mountpoint for mount in machine.mounts}
    copied = {volume.mountpoint for volume in volumes}
    for swap in machine.swaps:
        if swap.kind == "file":
            inside = [p for p in places if swap.path.startswith(p.rstrip("/") + "/")]
            if inside and (place := max(inside, key=len)) in copied:
                yield SwapFile(swap.path, place, swap.size)


def _left_out(
    machine: Machine,
    primary: Disk,
    fstab: tuple[Entry, ...],
    taken: set[str],
    excluded: set[str],
) -> tuple[list[Identity], list[str]]:
    """The identities of fstab's other entries, and a sentence for those left out unasked.

    `taken` has the paths of all volumes and swap areas of the set.
    """
    found: dict[Identity, None] = {}
    warnings = []
    for entry in fstab:
        path = device_of(machine, entry.spec)
        if path in taken or entry.spec in taken:
            continue
        found[identity_of(machine, path) if path else identity_from_spec(entry.spec)] = None
        mount = machine.mount_at(entry.mountpoint)
        if not entry.mountpoint or entry.mountpoint in excluded:
            continue
        if mount is not None and mount.source in taken:
            warnings.append(
                f"/etc/fstab names {entry.spec} for {entry.mountpoint}, but {mount.source} is "
                "mounted there. The copy would look for what fstab names."
            )
        elif mount is None and path:
            warnings.append(f"{entry.mountpoint} is not copied: it is not mounted.")
        elif path and not _lies_on(machine, path, primary):
            warnings.append(
                f"{entry.mountpoint} is not copied: it lies on another disk. "
                f"To copy it too: --volume {entry.mountpoint}"
            )
    return list(found), warnings


def _not_in_fstab(
    machine: Machine, primary: Disk, mounted: dict[str, Mount], chosen: dict[str, Mount]
) -> Iterable[str]:
    for place, mount in sorted(mounted.items()):
        if place not in chosen and machine.disk_of(mount.source) == primary:
            yield (
                f"{place} is not copied: it is mounted, but not in /etc/fstab. "
                f"To copy it too: --volume {place}"
            )
