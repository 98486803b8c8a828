#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Multiple-mount protection: two daemons on one image. Each has a loop device of its own, which is how the
# lock on the image is got round, as on a device that two hosts share.
. "$(dirname "$0")/lib.sh"
mnt2=$tmp/mnt2
mkdir "$mnt2"
a='' b=''
drop() {
	while mountpoint -q "$mnt2"; do umount "$mnt2" || umount -l "$mnt2"; done
	while mountpoint -q "$mnt"; do umount "$mnt" || umount -l "$mnt"; done
	for dev in $a $b; do losetup -d "$dev"; done
}
trap 'drop; cleanup' EXIT

truncate -s 64M "$img"
fails 2 "0 \(off\) to 300" "mkfs refuses a silly interval" mkfs.iomapfs -q --mmp=301 "$img"
mkfs.iomapfs -q --mmp=1 "$img"
ok $? "mkfs --mmp=1"
a=$(losetup --show -f "$img") && b=$(losetup --show -f "$img")
ok $? "two loop devices over one image"
mount.iomapfs "$a" "$mnt"
ok $? "the first mounts"
echo one >"$mnt/file" && sync -f "$mnt"
fails 32 "in use by host $(uname -n)" "the second is refused" mount.iomapfs "$b" "$mnt2"
mountpoint -q "$mnt2"
same $? 32 "and leaves nothing mounted"
same "$(cat "$mnt/file")" one "the first goes on"
echo two >"$mnt/file" && umount "$mnt"
ok $? "and unmounts"
blockdev --flushbufs "$b"
mount.iomapfs "$b" "$mnt2"
ok $? "then the second mounts"
same "$(cat "$mnt2/file")" two "and sees what was written"

# Killed: the number stands still, the other host waits and takes over.
pid=$(iomapctl info --json "$mnt2" | sed -n 's/.*"pid": \([0-9]*\).*/\1/p')
kill -9 "$pid"
while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
umount -l "$mnt2"
blockdev --flushbufs "$a"
t0=$SECONDS
mount.iomapfs "$a" "$mnt"
ok $? "after a kill the other one takes over"
[ $((SECONDS - t0)) -ge 3 ]
ok $? "when it has waited for a sign of life"
same "$(cat "$mnt/file")" two "and finds what was synced"

iomapctl tune --mmp 0 "$mnt" && umount "$mnt"
ok $? "switched off by iomapctl tune"
block() { dd if="$img" bs=4096 skip=1 count=1 status=none | sha256sum; }
sync -f "$img"
was=$(block)
mount.iomapfs "$a" "$mnt" && echo three >"$mnt/file" && sync -f "$mnt"
ok $? "mounts again"
same "$(block)" "$was" "and nobody's name is written any more"
umount "$mnt"
sync -f "$img"
fsck_it
done_testing
