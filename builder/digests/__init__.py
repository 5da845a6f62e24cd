# SPDX-License-Identifier: GPL-3.0-or-later
"""Digests of what each slot ought to hold, block by block: how `verify` knows."""
