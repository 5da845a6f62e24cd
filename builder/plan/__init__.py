# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure: refusals, layout, identity, the dry run."""
