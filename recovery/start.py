# SPDX-License-Identifier: GPL-3.0-or-later
"""Starts the rescue system's program in its initrd: `start.py FOLDER`, where this program lies."""

import sys

if __name__ == "__main__":
    sys.path[:0] = [sys.argv[1]]
    sys.path.append("/usr/lib/python3/dist-packages")
    from recovery.unattended import main

    sys.exit(main())
