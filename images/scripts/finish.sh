#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# The last step of a Debian installation, inside the booted system: initrd, swap file, boot loader.
# Arguments: FIRMWARE MODULES SWAP SWAP_BYTES DISK_SERIAL
set -eu
firmware=$1 modules=$2 swap=$3 swap_bytes=$4 serial=$5
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive
if [ "$swap" = file ]; then
	dd if=/dev/zero of=/swapfile bs=1M count=$((swap_bytes / 1048576)) status=none
	chmod 600 /swapfile
	mkswap -q /swapfile
fi
if [ "$modules" = dep ]; then
	sed -i 's/^MODULES=.*/MODULES=dep/' /etc/initramfs-tools/initramfs.conf
	update-initramfs -u
fi
if [ "$firmware" = uefi ]; then
	grub-install --target=x86_64-efi
else
	disk=$(find /dev/disk/by-id -name "*$serial" | sort | head -n 1)
	echo "grub-pc grub-pc/install_devices multiselect $disk" | debconf-set-selections
	grub-install --target=i386-pc "$disk"
fi
update-grub
rm -rf /var/cache/sample
journalctl --rotate --vacuum-size=1 >/dev/null 2>&1 || true
sync
