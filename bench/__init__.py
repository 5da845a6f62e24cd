# SPDX-License-Identifier: GPL-3.0-or-later
"""Side by side with peers, in one run: never a timed test, always figures to look at."""
