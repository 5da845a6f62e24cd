# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the DPSR disk and keeps it current."""
