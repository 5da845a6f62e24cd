# SPDX-License-Identifier: GPL-3.0-or-later
"""Things that boot: guests in QEMU, drills, the sample system, the rescue system."""
