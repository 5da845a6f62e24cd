# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks at the machine, writes nothing."""
