# SPDX-License-Identifier: GPL-3.0-or-later
"""Boot loaders and boot order."""
