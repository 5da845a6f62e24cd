# SPDX-License-Identifier: GPL-3.0-or-later
"""Ends the use of a DPSR disk on this machine; the copy on it stays as it is."""

from builder.hiding import unhide
from core import record, settings
from core.files import LOCK, lock
from core.screen import Screen
from core.settings import BackupSet
from grub import order
from grub.guard import PrimaryGuard
from grub.primary import PrimaryMenu


def forget(name: str, screen: Screen) -> BackupSet:
    """Take the set `name` out of firmware, records and settings.

    In this order: cut off in between, it is still known and can be forgotten again. The disk need
    not be there. Raises NotPrepared, BadSettings.
    """
    with lock(LOCK, "forget"):
        before = settings.load()
        known = before.named(name)
        for warning in order.remove_entry(known.control_guid):
            screen.warn(warning)
        record.forget_record(name)
        after = before.without_set(name)
        settings.save(after)
        unhide(known, after.sets if after.hide else (), screen)
        for warning in (
            *PrimaryGuard().end(known.control_uuid),
            *PrimaryMenu().end(name, after.sets),
        ):
            screen.warn(warning)
    return known
