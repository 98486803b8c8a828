#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A stock cp of a file of 10 GiB, dense and sparse, is a clone: no space, no time; and then two files. What
# cp does when FICLONE is refused depends on the file: a dense one it copies by copy_file_range, which
# clones, one with holes by read and write. So for the latter the preload library stands in.
. "$(dirname "$0")/lib.sh"
# Twenty gigabytes are read, nearly all of them zeros: not by a sanitizer's daemon.
PATH=${IOMAPFS_PLAIN_BIN:-$IOMAPFS_BIN}:$PATH

# Blocks that are free, those that a group keeps for itself included.
free_blocks() { sync -f "$mnt"; stat -f -c %f "$mnt"; }
shared() { # FILE: bytes that are shared, by FIEMAP
	iomapctl --json fiemap "$1" | python3 -c '
import json, sys
d = json.load(sys.stdin)
print(sum(e["length"] for e in d["extents"] if "shared" in e["flags"]))'
}

# On a disk, not on tmpfs: 10 GiB of holes, half a GiB of data.
disk=$(mktemp -d /var/tmp/iomapfs-reflink-XXXXXX)
img=$disk/img
trap 'rm -rf "$disk"; cleanup' EXIT
truncate -s 12G "$img" && mkfs.iomapfs -q -f "$img"
ok $? "mkfs on 12 GiB"
mount.iomapfs -o "$IOMAPFS_MOUNT_OPTIONS" "$img" "$mnt"
ok $? "mount"

truncate -s 10G "$mnt/a"
for gib in 0 3 6 9; do
	dd if=/dev/urandom of="$mnt/a" bs=1M count=128 seek=$((gib * 1024)) conv=notrunc status=none || ok 1 "write"
done
before=$(free_blocks)
start=$(date +%s%N)
iomapctl exec cp "$mnt/a" "$mnt/b"
ok $? "iomapctl exec cp"
echo "# took $((($(date +%s%N) - start) / 1000000)) ms"
same "$(stat -c '%s %b' "$mnt/b")" "$(stat -c '%s %b' "$mnt/a")" "the same size and blocks"
after=$(free_blocks)
[ $((before - after)) -le 16 ]
ok $? "no space for the data: $((before - after)) blocks"
same "$(shared "$mnt/b")" $((512 << 20)) "all of it is shared"
cmp "$mnt/a" "$mnt/b"
ok $? "cmp"

head -c 1000000 /dev/urandom >"$tmp/new"
dd if="$tmp/new" of="$mnt/b" bs=1M seek=3100 conv=notrunc status=none && sync "$mnt/b"
ok $? "a write to the copy"
# The write begins in the data at 3 GiB + 28 MiB and stays in it.
off=$((3100 << 20))
cmp -n 1000000 -i $off:0 "$mnt/b" "$tmp/new" >/dev/null
ok $? "is there"
cmp -n 1000000 -i $off:0 "$mnt/a" "$tmp/new" >/dev/null
ok $((! $?)) "and not in the original"
cmp -n $((1 << 20)) -i $((off - (1 << 20))) "$mnt/a" "$mnt/b" && cmp -n $((64 << 20)) -i $((off + 1000000)) "$mnt/a" "$mnt/b"
ok $? "on both sides they are equal"
dd if="$mnt/a" of="$mnt/dense" bs=1M skip=3072 count=128 status=none
cp "$mnt/dense" "$mnt/dense2"
same "$(shared "$mnt/dense2")" $((128 << 20)) "a plain cp of a dense file is a clone"
rm "$mnt/a"
same "$(shared "$mnt/b")" 0 "without the original nothing is shared"
umount "$mnt"
fsck.iomapfs -n "$img" >"$tmp/fsck" 2>&1
ok $? "fsck.iomapfs -n is clean"

# ---- Made without
truncate -s 64M "$disk/plain" && mkfs.iomapfs -q --no-reflink "$disk/plain" && img=$disk/plain
mount_it
ok $? "mkfs --no-reflink, mount"
head -c 1000000 /dev/urandom >"$mnt/a"
fails 1 "made without shared blocks" "iomapctl clone" iomapctl clone "$mnt/a" "$mnt/b"
fails 1 "not supported" "cp --reflink=always" iomapctl exec cp --reflink=always "$mnt/a" "$mnt/c"
cp "$mnt/a" "$mnt/d" && cmp "$mnt/a" "$mnt/d"
ok $? "cp copies"
same "$(shared "$mnt/d")" 0 "and nothing is shared"
umount_it
fsck_it
done_testing
