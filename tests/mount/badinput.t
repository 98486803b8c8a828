#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What cannot be mounted: a message, the exit code, nothing mounted, nothing written.
. "$(dirname "$0")/lib.sh"

refused() { # PATTERN DESCRIPTION [OPTIONS]
	local before after
	before=$(sha256sum <"$img")
	fails 32 "$1" "$2" mount.iomapfs -o "${3:-defaults}" "$img" "$mnt"
	after=$(sha256sum <"$img")
	same "$after" "$before" "$2: nothing was written"
	! mountpoint -q "$mnt"
	ok $? "$2: nothing is mounted"
}

truncate -s 64M "$img"
refused "iomapfs" "an empty image"
mkfs.ext4 -q -F "$img"
refused "iomapfs" "an ext4 image"
: >"$img"
refused "." "an image of no bytes"
mkfs_it 64M
truncate -s 32M "$img"
refused "smaller|size|end" "an image smaller than its file system"
mkfs_it 64M
printf 'garbage' | dd of="$img" bs=1 seek=100 conv=notrunc status=none
mount_it && umount_it
ok $? "a damaged first superblock: a copy serves"

mkfs_it 64M
fails 1 "nosuchoption" "an unknown option" mount.iomapfs -o nosuchoption "$img" "$mnt"
fails 1 "strictatime" "strictatime" mount.iomapfs -o strictatime "$img" "$mnt"
fails 1 "expected auto, uring or loop" "an unknown transport" mount.iomapfs -o transport=pigeon "$img" "$mnt"
fails 1 "kernel_cache" "a bad cache mode" mount.iomapfs -o kernel_cache=sometimes "$img" "$mnt"
fails 1 "usage" "no arguments" mount.iomapfs
fails 32 "No such file" "a missing image" mount.iomapfs "$tmp/none" "$mnt"
fails 32 "No such file" "a missing mount point" mount.iomapfs "$img" "$tmp/none"
fails 32 "not a directory" "a file as mount point" mount.iomapfs "$img" "$img"
fails 32 "neither" "a directory as source" mount.iomapfs "$tmp" "$mnt"
! mountpoint -q "$mnt"
ok $? "nothing is mounted after all that"
unshare -m sh -c 'mount -t tmpfs none /dev && exec mount.iomapfs "$1" "$2"' sh "$img" "$mnt" >"$tmp/out" 2>&1
same $? 2 "without /dev/fuse: exit code"
grep -q "/dev/fuse" "$tmp/out"
ok $? "without /dev/fuse: says so"
chattr +i "$img" 2>/dev/null && {
	fails 32 "ro" "an image that cannot be written" mount.iomapfs "$img" "$mnt"
	chattr -i "$img"
}
mount_it && umount_it
ok $? "and the image still mounts"
fsck_it
done_testing
