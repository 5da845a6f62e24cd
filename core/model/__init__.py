# SPDX-License-Identifier: GPL-3.0-or-later
"""Frozen values: what the rooms say to each other. No input, no output.

All sizes and offsets are bytes. Device paths (`/dev/sda1`) are good for one run only; what lasts
is a serial number, a WWN, a UUID or a GUID.
"""
