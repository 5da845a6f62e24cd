# SPDX-License-Identifier: GPL-3.0-or-later
"""What the system says against a disk, in words that mean something to who stands before it."""

import errno
from collections.abc import Mapping
from typing import Final

_MEANS: Final[Mapping[int, str]] = {
    errno.EIO: "the disk reports an error",
    errno.ENODATA: "the disk cannot read what it holds there",
    errno.EREMOTEIO: "the disk has failed",
    errno.ENXIO: "the disk is gone, or does not answer any more",
    errno.ENODEV: "the disk is gone, or does not answer any more",
    errno.ENOMEDIUM: "the disk is gone, or does not answer any more",
    errno.ETIMEDOUT: "the disk does not answer in time",
    errno.EROFS: "the kernel lets nobody write there, as after an error of the disk",
    errno.EUCLEAN: "its file system is damaged",
    errno.EBADMSG: "its file system is damaged",
    errno.ENOSPC: "it is full",
}
OF_A_DISK: Final = frozenset(_MEANS)
"""Numbers by which the system says that a disk or the file system on it fails."""


def reason_of(error: OSError) -> str:
    """Why it failed, with the system's own words: `the disk reports an error (Input/output error)`.

    To stand behind a colon, without a full stop.
    """
    means = _MEANS.get(error.errno or 0)
    said = error.strerror or str(error)
    return f"{means} ({said})" if means else said
