#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Devices that fail below a mounted daemon, seen through the real kernel. Two of them:
#  - an image with holes on a tmpfs that is full: data that needs new blocks of it cannot be
#    written, the journal and all metadata can;
#  - an image on an ext4 that is shut down: every request fails from then on.
. "$(dirname "$0")/lib.sh"
log=$tmp/log host=$tmp/host
mkdir "$host"
trap 'umount "$mnt" 2>/dev/null; umount "$host" 2>/dev/null || umount -l "$host" 2>/dev/null; cleanup' EXIT

start() { # OPTIONS: in the foreground, so that its log can be read
	: >"$log"
	iomapfs -f -o "$IOMAPFS_MOUNT_OPTIONS,commit=300,$1" "$img" "$mnt" 2>"$log" &
	daemon=$!
	for _ in $(seq 100); do mountpoint -q "$mnt" && return 0; sleep 0.1; done
	return 1
}
stop() { # umount; its exit code and the daemon's
	timeout 60 umount "$mnt"
	unmounted=$?
	wait $daemon
	code=$?
}
lines() { grep -c "$1" "$log"; }

# ---- Data that cannot be written -------------------------------------------------------------------

mount -t tmpfs -o size=100M none "$host"
img=$host/img
truncate -s 512M "$img" && mkfs.iomapfs -q "$img"
# What is metadata has its blocks: the first 48 MiB hold the journal, and all that is made below.
fallocate -l 48M "$img"
start kernel_cache=through
ok $? "mount from a tmpfs"
echo kept >"$mnt/kept" && sync -f "$mnt"
dd if=/dev/zero of="$host/filler" bs=1M status=none 2>/dev/null
[ "$(stat -f -c %f "$host")" = 0 ]
ok $? "the tmpfs is full"
timeout 120 python3 - "$mnt" >"$tmp/out" 2>&1 <<'P'
import errno, os, subprocess, sys
path = sys.argv[1] + "/data"

def fsync(fd):
    try:
        os.fsync(fd)
        return 0
    except OSError as e:
        return e.errno

def check(what, got, want):
    good = got in want if isinstance(want, set) else got == want
    print(f"{'good' if good else 'bad'} {what}: {got!r}")

one = os.open(path, os.O_RDWR | os.O_CREAT)
two = os.open(path, os.O_RDWR)
block = os.urandom(1 << 20)
for i in range(96):
    os.pwrite(one, block, i << 20)
check("the first descriptor hears of it", fsync(one), {errno.ENOSPC, errno.EIO})
check("once", fsync(one), 0)
check("the second one too", fsync(two), {errno.ENOSPC, errno.EIO})
check("once", fsync(two), 0)
late = os.open(path, os.O_RDWR)
check("one that was opened after all had heard does not", fsync(late), 0)
check("what was written is in the cache", os.pread(one, 1 << 20, 95 << 20) == block, True)
for fd in (one, two, late):
    os.close(fd)
# Heard by nobody yet: the next who opens it is told, as errseq_t has it.
one = os.open(path, os.O_RDWR)
for i in range(96, 160):
    os.pwrite(one, block, i << 20)
subprocess.run(["sync", "-f", sys.argv[1]], check=False, stderr=subprocess.DEVNULL)
late = os.open(path, os.O_RDWR)
check("an error that nobody has heard reaches one that opens it later", fsync(late), {errno.ENOSPC, errno.EIO})
check("and the one that wrote", fsync(one), {errno.ENOSPC, errno.EIO})
check("once", (fsync(late), fsync(one)), (0, 0))
P
ok $? "a program that writes what cannot be written ends"
grep -q "^good" "$tmp/out" && ! grep -vq "^good" "$tmp/out"
ok $? "errors reach each descriptor once"
sed 's/^/# /' "$tmp/out"
touch "$mnt/still-writable" && sync -f "$mnt"
ok $? "data alone does not stop the file system"
same "$(lines 'stopped after an error')" 0 "and the log does not say so"
rm "$host/filler"
dd if=/dev/urandom of="$mnt/data" bs=1M count=20 conv=fsync status=none
ok $? "with room again the same file can be written"
sum=$(sha256sum <"$mnt/data")
stop
same "$unmounted $code" "0 0" "unmount"
start kernel_cache=writeback && [ "$(sha256sum <"$mnt/data")" = "$sum" ] && [ "$(cat "$mnt/kept")" = kept ]
ok $? "what was written then is there"

# The kernel's cache in front: its own errseq_t has to hear it from us.
dd if=/dev/zero of="$host/filler" bs=1M status=none 2>/dev/null
timeout 120 python3 - "$mnt" >"$tmp/out" 2>&1 <<'P'
import os, sys
one = os.open(sys.argv[1] + "/more", os.O_RDWR | os.O_CREAT)
two = os.open(sys.argv[1] + "/more", os.O_RDWR)
for i in range(96):
    os.pwrite(one, os.urandom(1 << 20), i << 20)
heard = []
for fd in (one, one, two, two):
    try:
        os.fsync(fd)
        heard.append(0)
    except OSError as e:
        heard.append(1)
print(heard)
P
same "$(cat "$tmp/out")" "[1, 0, 1, 0]" "writeback mode: the same"
rm "$host/filler" "$mnt/more"
stop
same "$unmounted $code" "0 0" "unmount"
fsck_it
umount "$host"

# ---- A device that is gone -----------------------------------------------------------------------------

host_up() {
	mount -o loop "$tmp/host.img" "$host"
}
truncate -s 400M "$tmp/host.img" && mkfs.ext4 -q -F "$tmp/host.img" && host_up
ok $? "an ext4 to hold an image"
dd if=/dev/zero of="$img" bs=1M count=200 status=none && mkfs.iomapfs -q -K "$img" && sync -f "$img"
cp "$img" "$tmp/fresh"

for errors in remount-ro continue; do
	start "kernel_cache=through,errors=$errors"
	ok $? "errors=$errors: mount"
	mkdir "$mnt/d" && dd if=/dev/urandom of="$mnt/d/safe" bs=1M count=8 status=none && sync "$mnt/d/safe"
	sum=$(sha256sum <"$mnt/d/safe")
	exec 6<>"$mnt/d/open"
	dd if=/dev/urandom of="$mnt/d/lost" bs=1M count=8 status=none
	xfs_io -x -c shutdown "$host"
	ok $? "errors=$errors: the device is gone"
	timeout 60 sync "$mnt/d/lost" 2>"$tmp/out"
	same $? 1 "errors=$errors: fsync fails"
	grep -q "Input/output error" "$tmp/out"
	ok $? "errors=$errors: with EIO"
	timeout 60 touch "$mnt/d/new" 2>"$tmp/out"
	same $? 1 "errors=$errors: a journal that cannot be written ends all changes"
	grep -q "Read-only file system" "$tmp/out"
	ok $? "errors=$errors: with EROFS"
	same "$(timeout 60 sha256sum <"$mnt/d/safe")" "$sum" "errors=$errors: what is cached can be read"
	same "$(timeout 60 ls "$mnt/d" | tr '\n' ' ')" "lost open safe " "errors=$errors: and listed"
	timeout 60 sh -c 'echo x >&6' 2>/dev/null
	timeout 60 rm "$mnt/d/safe" 2>/dev/null
	same $? 1 "errors=$errors: removing fails"
	same "$(lines 'stopped after an error')" 1 "errors=$errors: one line in the log"
	grep 'stopped after an error' "$log" | grep -q "the file system is read-only now, run fsck.iomapfs after unmounting"
	ok $? "errors=$errors: it says what to do"
	exec 6<&-
	stop
	same "$unmounted" 0 "errors=$errors: umount(8) ends"
	same "$code" 32 "errors=$errors: the daemon's exit code tells that it could not write everything"
	same "$(lines 'stopped after an error')" 1 "errors=$errors: still one line"
	[ "$failed" = 0 ] || sed 's/^/# /' "$log"
	umount "$host" && host_up
	ok $? "errors=$errors: the device is back"
	start "errors=$errors"
	ok $? "errors=$errors: mount recovers"
	same "$(sha256sum <"$mnt/d/safe")" "$sum" "errors=$errors: what was fsynced is there"
	stop
	same "$unmounted $code" "0 0" "errors=$errors: unmount"
	fsck_it
	cp "$tmp/fresh" "$img" && sync -f "$img"
done
umount "$host"
trap cleanup EXIT
done_testing
