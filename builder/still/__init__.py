# SPDX-License-Identifier: GPL-3.0-or-later
"""A still picture of a moving disk: tracker, freezer, quiet, watchdog."""
