# SPDX-License-Identifier: GPL-3.0-or-later
"""The store of an overlay: a loop device over memory, which goes by itself."""

import os
import time
from pathlib import Path

from builder.fixup.overlay import _attach


def test_the_loop_device_goes_with_its_last_user() -> None:
    store = os.memfd_create("dpsr-test", os.MFD_CLOEXEC)
    try:
        os.ftruncate(store, 1 << 20)
        loop, path = _attach(store, "dpsr-test")
        sysfs = Path("/sys/class/block", Path(path).name, "loop")
        try:
            assert "dpsr-test" in (sysfs / "backing_file").read_text()
            os.pwrite(loop, b"overlay", 4096)
            os.fsync(loop)
            assert os.pread(store, 7, 4096) == b"overlay"
        finally:
            os.close(loop)
        deadline = time.monotonic() + 10
        while sysfs.exists():
            assert time.monotonic() < deadline, "the loop device stays"
            time.sleep(0.05)
    finally:
        os.close(store)
