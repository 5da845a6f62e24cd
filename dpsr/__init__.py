# SPDX-License-Identifier: GPL-3.0-or-later
"""The command: options in, calls down, one line out; no logic."""
