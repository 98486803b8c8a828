#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Read-only mounts of what was not unmounted: the journal is read, and not one byte is written.
. "$(dirname "$0")/lib.sh"
dev=''
trap '[ -z "$dev" ] || { umount "$mnt"; losetup -d "$dev"; } 2>/dev/null; cleanup' EXIT

# A dirty image: killed after a sync, before its journal was emptied.
mkfs_it 64M && mount_it commit=300
ok $? "mkfs and mount"
mkdir "$mnt/d" && echo kept >"$mnt/d/file" && sync "$mnt/d/file"
ok $? "a file that was synced"
pid=$(iomapctl info --json "$mnt" | sed -n 's/.*"pid": \([0-9]*\).*/\1/p')
kill -9 "$pid"
while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
umount -l "$mnt"
sum=$(sha256sum <"$img")

dev=$(losetup -r --show -f "$img")
ok $? "a loop device that cannot be written"
fails 32 "can not be written: mount it with -o ro" "a mount for writing" mount.iomapfs "$dev" "$mnt"
mount.iomapfs -o ro "$dev" "$mnt"
ok $? "mount -o ro"
same "$(cat "$mnt/d/file")" kept "shows what the journal holds"
{ : >"$mnt/new"; } 2>"$tmp/err"
same $? 1 "nothing can be made"
grep -q "Read-only file system" "$tmp/err"
ok $? "because it is read-only"
fails 32 "write-protected|read-only" "remount,rw is refused" mount.iomapfs -o remount,rw "$dev" "$mnt"
umount "$mnt"
ok $? "umount"
mount.iomapfs -o ro,norecovery "$dev" "$mnt"
ok $? "mount -o ro,norecovery"
[ ! -e "$mnt/d/file" ]
ok $? "shows what stands in place: no file yet"
umount "$mnt"
losetup -d "$dev"
dev=''
mount_it ro && [ "$(cat "$mnt/d/file")" = kept ] && umount "$mnt"
ok $? "the image itself, -o ro"
fails 32 "norecovery works only together with ro" "norecovery alone" mount.iomapfs -o norecovery "$img" "$mnt"
same "$(sha256sum <"$img")" "$sum" "not one byte was written"

# Damage to the last of four groups: what can be read is read.
printf '\377' | dd of="$img" bs=1 seek=$((3 * 16777216 + 8192 + 100)) conv=notrunc status=none
fails 32 "fsck.iomapfs, or mount it with -o ro" "a damaged group, for writing" mount.iomapfs "$img" "$mnt"
mount_it ro 2>"$tmp/err" && [ "$(cat "$mnt/d/file")" = kept ]
ok $? "read-only it serves"
df "$mnt" >/dev/null
ok $? "df answers"
umount "$mnt"
mount_it && echo changed >"$mnt/d/file" 2>/dev/null
same $? 32 "and for writing it stays refused"
done_testing
