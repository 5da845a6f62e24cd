#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# boot=dpsr: the initrd's own way to a root file system. Sourced by /init.

mount_top() { :; }
mount_premount() { :; }
mount_bottom() { :; }

mountroot() {
    wait_for_udev 10
    if ROOTMNT=$rootmnt /usr/bin/python3 -IS @HOME@/recovery/start.py @HOME@; then
        return # the copy is mounted there, and is started from here
    fi
    # Only a fault of the program itself comes here: it says what it is on the console.
    panic "Type exit to restart the machine."
    reboot -f
}
