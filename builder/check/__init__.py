# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads a DPSR disk back and says what of it is damaged."""
