# SPDX-License-Identifier: GPL-3.0-or-later
"""Things that boot: samples, virtual machines, drills."""
