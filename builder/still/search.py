# SPDX-License-Identifier: GPL-3.0-or-later
"""What an update does before it writes: find what differs between the volumes and their slots."""

from collections.abc import Collection

from builder.change.detector import UseCompare
from builder.copying.copier import Copier
from builder.still.volume import Volume
from core.model.blockset import BlockSet
from core.screen import Advance, Screen


def choose_detectors(volumes: Collection[Volume], screen: Screen) -> None:
    """Choose one for each volume, while its slot is as the last backup left it; say which."""
    for volume in volumes:
        reason = volume.choose_detector()
        screen.note(how(volume, reason))


def search(volumes: Collection[Volume], copier: Copier, screen: Screen) -> int:
    """Find what differs; return how many bytes of the volumes were examined.

    They were surveyed before, and what was written until then is on their disks. Raises ReadFailed.
    """
    work = sum(volume.detector.work for volume in volumes)
    with screen.progress("Looking for changes", work) as advance:
        candidates = [_find(volume, copier, screen, advance) for volume in volumes]
    total = sum(blocks.total for blocks in candidates)
    with screen.progress("Comparing", total) as advance:
        for volume, blocks in zip(volumes, candidates, strict=True):
            volume.compare(copier, blocks, advance)
    return work + total


def reparse(volume: Volume, screen: Screen) -> None:
    """Let the detector see what was written; when it cannot follow, compare all there is."""
    try:
        volume.reparse(still=False)
    except UseCompare as reason:
        _use_compare(volume, reason, screen)


def how(volume: Volume, reason: str) -> str:
    """How the changes of a volume are found, in a line; `reason` says why all is compared."""
    if not reason:
        return f"{volume.source.name}: changes are told by its inode tables"
    return f"{volume.source.name}: all of it is compared, since {reason}"


def _find(volume: Volume, copier: Copier, screen: Screen, advance: Advance) -> BlockSet:
    def limited(count: int) -> None:
        copier.throttle.spend(2 * count)
        advance(count)

    try:
        return volume.find(copier, limited)
    except UseCompare as reason:
        _use_compare(volume, reason, screen)
    return volume.find(copier, limited)


def _use_compare(volume: Volume, reason: UseCompare, screen: Screen) -> None:
    volume.use_compare()
    screen.note(how(volume, str(reason)))
