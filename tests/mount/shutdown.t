#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# iomapctl shutdown: from then on every request fails with EIO, nothing more is written, and the next
# mount has what was durable. Not an error: nobody is told to run fsck.
. "$(dirname "$0")/lib.sh"
log=$tmp/log

start() { # in the foreground, so that its log can be read
	: >"$log"
	iomapfs -f -o "$IOMAPFS_MOUNT_OPTIONS,commit=300" "$img" "$mnt" 2>"$log" &
	daemon=$!
	for _ in $(seq 100); do mountpoint -q "$mnt" && return 0; sleep 0.1; done
	return 1
}
refused() { # DESCRIPTION COMMAND...
	local what=$1
	shift
	"$@" >"$tmp/out" 2>&1
	same $? 1 "$what fails"
	grep -q "Input/output error" "$tmp/out"
	ok $? "with EIO"
}

mkfs_it 64M && start
ok $? "mkfs and mount"
echo durable >"$mnt/durable" && sync "$mnt/durable" && mkdir "$mnt/d" && echo cached >"$mnt/d/cached" && sync -f "$mnt"
echo lost >"$mnt/lost"
exec 5<"$mnt/durable" 6<"$mnt/d/cached"
python3 -c 'import os; os.pread(6, 100, 0)' # into the kernel's cache
sum=$(sha256sum <"$img")
iomapctl shutdown "$mnt"
ok $? "iomapctl shutdown"
refused "stat of a name never seen" stat "$mnt/d/other"
refused "reading a directory" sh -c "ls '$mnt/d' || exit 1"
refused "creating" touch "$mnt/new"
refused "opening" cat "$mnt/d/cached"
refused "renaming" mv "$mnt/durable" "$mnt/moved"
refused "removing" rm "$mnt/durable"
refused "sync" sync -f "$mnt"
python3 -c 'import errno, os, sys
try:
    os.pread(6, 1, 0)
except OSError as e:
    sys.exit(e.errno != errno.EIO)
sys.exit(1)'
ok $? "reading a file that was open, and in the kernel's cache, fails with EIO"
fails 32 "was shut down: unmount it and mount it again" "remount" mount.iomapfs -o remount,rw "$img" "$mnt"
iomapctl --json info "$mnt" | python3 -c 'import json,sys; sys.exit(not json.load(sys.stdin)["shut_down"])'
ok $? "iomapctl info still answers, and says so"
iomapctl shutdown "$mnt"
ok $? "a second time changes nothing"
exec 5<&- 6<&-
umount "$mnt"
ok $? "umount works"
wait $daemon
same "$(sha256sum <"$img")" "$sum" "not one byte was written since"
same "$(grep -c "shut down as was asked for, without writing" "$log")" 1 "the log says it in one line"
! grep -qE "fsck|error" "$log"
ok $? "and speaks of no error and no fsck"
[ "$failed" = 0 ] || sed 's/^/# /' "$log"
start
ok $? "mount again at once"
same "$(cat "$mnt/durable" "$mnt/d/cached")" "durable
cached" "what was durable is there"
[ ! -e "$mnt/lost" ]
ok $? "what was not is gone"
echo synced >"$mnt/synced"
iomapctl shutdown --sync "$mnt"
ok $? "iomapctl shutdown --sync"
umount_it && wait $daemon
mount_it && [ "$(cat "$mnt/synced")" = synced ] && umount_it
ok $? "what was written before is there"
iomapctl wait "$img"
fsck_it

# --sync on a device that cannot be written: it goes down all the same, and says what is missing.
mkdir "$tmp/host" && truncate -s 200M "$tmp/host.img" && mkfs.ext4 -q -F "$tmp/host.img" && mount -o loop "$tmp/host.img" "$tmp/host"
ok $? "a host that can fail"
trap 'umount "$mnt" 2>/dev/null; umount "$tmp/host"; cleanup' EXIT
img=$tmp/host/img
dd if=/dev/zero of="$img" bs=1M count=64 status=none && mkfs.iomapfs -q -K "$img" && sync -f "$img" && start
ok $? "mount from it"
echo never >"$mnt/never"
xfs_io -x -c "shutdown" "$tmp/host"
ok $? "the host fails"
fails 1 "is shut down, but not everything could be written back first: Input/output error" "shutdown --sync" iomapctl shutdown --sync "$mnt"
refused "a request" sh -c "ls '$mnt' || exit 1"
timeout 60 umount "$mnt"
ok $? "umount"
wait $daemon
umount "$tmp/host"
trap cleanup EXIT
done_testing
