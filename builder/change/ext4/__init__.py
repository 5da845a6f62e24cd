# SPDX-License-Identifier: GPL-3.0-or-later
"""What differs between two ext4 file systems of one origin, told by their metadata."""
