#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Puts Python, this program and what it calls into the rescue system's initrd.
if [ "$1" = prereqs ]; then exit 0; fi
. /usr/share/initramfs-tools/hook-functions
set -e

# Disks and keyboards of any bay, and the file systems of a DPSR disk; no network, no graphics.
auto_add_modules base scsi block ata mmc usb_storage
manual_add_modules ext4 vfat nls_cp437 nls_ascii nls_iso8859-1 nls_utf8 efivarfs

# $1: a folder; everything in it but what a rescue has no use for. By cpio: one process for each of
# two thousand files takes minutes where the processor is slow.
copy_tree() {
    mkdir -p "$DESTDIR$1"
    (cd "$1" && find . \( -name test -o -name tests -o -name idlelib -o -name tkinter \
        -o -name turtledemo -o -name ensurepip -o -name pydoc_data -o -name lib2to3 \
        -o -name distutils -o -name 'config-*' \) -prune -o \( -type f -o -type l \) -print0 |
        cpio --quiet -0pdm "$DESTDIR$1")
    find "$1" -name '*.so' | while read -r library; do
        case $library in
            */test/* | */tests/* | */config-*) continue ;;
        esac
        rm -f "$DESTDIR$library"
        copy_exec "$library"
    done
}

python=$(readlink -f /usr/bin/python3)
copy_exec "$python"
mkdir -p "$DESTDIR/usr/bin"
ln -sf "$python" "$DESTDIR/usr/bin/python3"
copy_tree "/usr/lib/${python##*/}"
for name in xxhash zstandard; do
    copy_tree "/usr/lib/python3/dist-packages/$name"
done
for room in @ROOMS@; do
    copy_tree "$room"
done

# Instead of the small ones that an initrd has.
for program in mount umount; do
    rm -f "$DESTDIR/bin/$program" "$DESTDIR/usr/bin/$program"
    copy_exec "/usr/bin/$program" "/usr/bin/$program"
done
for program in e2fsck blkid; do
    copy_exec "/sbin/$program"
done

# What the primary hides is the disk that this system is on.
rm -f "$DESTDIR/etc/dpsr/hidden"
