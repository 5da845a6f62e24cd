# SPDX-License-Identifier: GPL-3.0-or-later
"""Gives the copy its own identity."""
