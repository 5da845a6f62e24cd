#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Unpack the base, make it a system of its own, and fill the partitions of a disk image with it.
# Runs in namespaces where it is root (images/sample.py), so nobody needs to be root outside.
# Arguments: BASE.tar IMAGE OUTPUT_FOLDER SETTINGS (a file of shell assignments)
set -eu
base=$1 image=$2 out=$3
. "$4"
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive

work=$out/work root=$out/work/root
clean() { umount -l "$root/proc" "$root/sys" "$root/dev" 2>/dev/null || true; rm -rf --one-file-system "$work"; }
trap clean EXIT
rm -rf "$work"
mkdir -p "$root/dev" "$root/proc" "$root/sys"
tar -C "$root" --xattrs --xattrs-include='*' --numeric-owner -xf "$base"

mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc" 2>/dev/null || mount --rbind /proc "$root/proc"
mount --rbind /sys "$root/sys"
printf '#!/bin/sh\nexit 101\n' > "$root/usr/sbin/policy-rc.d"
chmod 755 "$root/usr/sbin/policy-rc.d"

printf '%s' "$fstab" > "$root/etc/fstab"
echo "$hostname" > "$root/etc/hostname"
printf '127.0.0.1 localhost\n127.0.1.1 %s\n' "$hostname" > "$root/etc/hosts"
echo "$machine_id" > "$root/etc/machine-id"
echo 'LANG=C.UTF-8' > "$root/etc/default/locale"
ln -sf /usr/share/zoneinfo/Etc/UTC "$root/etc/localtime"
echo 'root:dpsr' | chroot "$root" chpasswd
mkdir -p "$root/etc/default/grub.d" "$root/etc/initramfs-tools/conf.d"
if [ -n "$swap_uuid" ]; then echo "RESUME=UUID=$swap_uuid" > "$root/etc/initramfs-tools/conf.d/resume"; fi
# A person at the serial console should not have to type a password; the screen asks for it.
mkdir -p "$root/etc/systemd/system/serial-getty@ttyS0.service.d"
cat > "$root/etc/systemd/system/serial-getty@ttyS0.service.d/autologin.conf" <<'END'
[Service]
ExecStart=
ExecStart=-/sbin/agetty --autologin root --keep-baud 115200,38400,9600 - $TERM
END
chroot "$root" systemctl enable serial-getty@ttyS0.service >/dev/null 2>&1
# No network, so nothing to fetch; and a guest should not be busy with itself.
chroot "$root" systemctl mask apt-daily.timer apt-daily-upgrade.timer >/dev/null 2>&1
chroot "$root" systemctl disable systemd-networkd-wait-online.service systemd-timesyncd.service >/dev/null 2>&1 || true

chroot "$root" sh -c "apt-get -q -y install /var/cache/sample/${loader}_*.deb" </dev/null
cat > "$root/etc/default/grub" <<'END'
GRUB_DEFAULT=0
GRUB_TIMEOUT=2
GRUB_DISTRIBUTOR=Debian
GRUB_CMDLINE_LINUX_DEFAULT=""
GRUB_CMDLINE_LINUX="console=tty0 console=ttyS0"
GRUB_TERMINAL="console serial"
GRUB_SERIAL_COMMAND="serial --unit=0 --speed=115200"
END
chroot "$root" update-initramfs -u
rm -f "$root/usr/sbin/policy-rc.d"
umount -l "$root/proc" "$root/sys" "$root/dev"
cp "$root"/boot/vmlinuz-* "$out/vmlinuz"
cp "$root"/boot/initrd.img-* "$out/initrd.img"

export MKE2FS_CONFIG="$root/etc/mke2fs.conf"  # the features that this release's installer chooses
fill() {  # folder, start, size (bytes), UUID
	mke2fs -q -F -t ext4 -d "$1" -U "$4" \
		-E "offset=$2,root_owner=0:0,nodiscard,lazy_itable_init=0,lazy_journal_init=0" "$image" "$(($3 / 1024))k"
}
if [ -n "$boot_uuid" ]; then
	mv "$root/boot" "$work/boot"
	mkdir "$root/boot"
	mkdir -p "$work/boot/efi"
	fill "$work/boot" "$boot_start" "$boot_size" "$boot_uuid"
fi
if [ -n "$esp_uuid" ]; then  # -s 1: with larger clusters there are too few for FAT32, and OVMF looks away
	mkdir -p "$root/boot/efi"
	mkfs.fat -F 32 -s 1 -i "$(echo "$esp_uuid" | tr -d -)" --offset "$((esp_start / 512))" "$image" "$((esp_size / 1024))" >/dev/null
fi
fill "$root" "$root_start" "$root_size" "$root_uuid"
if [ -n "$swap_uuid" ]; then
	truncate -s "$swap_size" "$work/swap"
	mkswap -q -U "$swap_uuid" "$work/swap"
	dd if="$work/swap" of="$image" bs=4096 count=1 seek="$((swap_start / 4096))" conv=notrunc status=none
fi
