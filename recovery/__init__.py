# SPDX-License-Identifier: GPL-3.0-or-later
"""Getting things back."""
