#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# -o dax through the kernel: an image on a small tmpfs, whose memory is what files are read from and written to.
# IOMAPFS_PLAIN_BIN: a build with the system call filter, for the part of it that needs a call of its own.
. "$(dirname "$0")/lib.sh"
: "${IOMAPFS_PLAIN_BIN:=$IOMAPFS_BIN}"
: "${IOMAPFS_SEED:=$(date +%Y%m%d%H)}"

shm=$tmp/shm
mkdir "$shm"
mount -t tmpfs -o size=192M tmpfs "$shm" || { echo "Bail out! no tmpfs"; exit 1; }
trap 'rc=$?; cd /; umount "$mnt" 2>/dev/null; umount -l "$shm"; (exit $rc); cleanup' EXIT
disk=$img
img=$shm/img

stat_of() { iomapctl --json stats "$mnt" | python3 -c "import json,sys; print(json.load(sys.stdin)['$1'])"; }
uncached() { # DESCRIPTION
	same "$(stat_of folio_hits) $(stat_of folio_misses) $(stat_of cached_bytes)" "0 0 0" "$1: the cache was not used"
}

# ---- What is refused -----------------------------------------------------------------------------
mkfs_it 64M && mount_it
printf 'nine bytes' >"$mnt/small" && dd if=/dev/urandom of="$mnt/plain" bs=10000 count=30 status=none
sum=$(sha256sum <"$mnt/plain")
fails 32 'remount: dax can not be switched on' "dax with a remount" mount.iomapfs -o remount,dax "$img" "$mnt"
umount_it
cp "$img" "$disk"
fails 32 'is not memory: -o dax needs an image on tmpfs' "an image on disk" mount.iomapfs -o dax "$disk" "$mnt"
rm -f "$disk"
for block in 1024 65536; do
	truncate -s 64M "$shm/other" && mkfs.iomapfs -q -b $block "$shm/other"
	fails 32 "blocks of $block bytes.*mkfs.iomapfs -b 4096" "blocks of $block bytes" mount.iomapfs -o dax "$shm/other" "$mnt"
	rm -f "$shm/other"
done
fails 1 "dax.*takes no value" "dax=always" mount.iomapfs -o dax=always "$img" "$mnt"

# ---- Files of a mount without it, and new ones --------------------------------------------------------
mount_it dax
ok $? "mounted with dax"
iomapctl info "$mnt" | grep -q '^dax  *true$'
ok $? "which iomapctl info shows"
same "$(cat "$mnt/small")" "nine bytes" "a file inside its inode"
same "$(sha256sum <"$mnt/plain")" "$sum" "a file in blocks"
printf ' more' >>"$mnt/small"
same "$(cat "$mnt/small")" "nine bytes more" "and it grows out of the inode"
cp "$mnt/plain" "$mnt/copy" && cmp "$mnt/plain" "$mnt/copy"
ok $? "cp"
python3 - "$mnt" <<'PY'
import mmap, os, sys
mnt = sys.argv[1]
fd = os.open(f"{mnt}/mapped", os.O_RDWR | os.O_CREAT, 0o644)
os.ftruncate(fd, 1 << 20)
m = mmap.mmap(fd, 1 << 20)
m[5000:5005] = b"store"
m.flush()
assert os.pread(fd, 10, 4998) == b"\0\0store\0\0\0"
os.pwrite(fd, b"WRITE", 70000)
assert m[69999:70006] == b"\0WRITE\0"
# Direct I/O needs no alignment of the device's.
d = os.open(f"{mnt}/mapped", os.O_RDWR | os.O_DIRECT)
buf = mmap.mmap(-1, 8192)
buf[:4096] = b"d" * 4096
assert os.pwritev(d, [memoryview(buf)[:4096]], 131072) == 4096
assert os.preadv(d, [memoryview(buf)[4096:]], 131072) == 4096 and buf[4096:] == b"d" * 4096
assert os.lseek(fd, 0, os.SEEK_DATA) == 4096 and os.lseek(fd, 4096, os.SEEK_HOLE) == 8192
os.ftruncate(fd, 5002)
os.ftruncate(fd, 6000)
assert os.pread(fd, 6000, 5000) == b"st" + bytes(998)
PY
ok $? "mmap, direct, seek, truncate"
fallocate -p -o 4096 -l 100000 "$mnt/copy" && fallocate -z -o 200000 -l 5000 "$mnt/copy" && fallocate -l 400000 "$mnt/copy"
ok $? "punch, zero, allocate"
python3 - "$mnt" <<'PY'
import sys
a, b = (open(f"{sys.argv[1]}/{n}", "rb").read() for n in ("plain", "copy"))
want = bytearray(a + bytes(400000 - len(a)))
want[4096:104096] = bytes(100000)
want[200000:205000] = bytes(5000)
assert b == bytes(want)
PY
ok $? "which reads as it should"
uncached "so far"
dd if=/dev/urandom of="$mnt/own" bs=40000 count=1 status=none
before=$(stat_of device_persist_bytes)
dd if=/dev/urandom of="$mnt/own" bs=10000 count=1 seek=2 conv=notrunc status=none
same "$(($(stat_of device_persist_bytes) - before))" 10000 "what is stored is made durable, that and no more"

# ---- Shared blocks -----------------------------------------------------------------------------------
iomapctl clone "$mnt/plain" "$mnt/clone" && cmp "$mnt/plain" "$mnt/clone"
ok $? "a clone"
printf X | dd of="$mnt/clone" bs=1 seek=123456 conv=notrunc status=none
same "$(cmp "$mnt/plain" "$mnt/clone" | sed 's/.*byte \([0-9]*\).*/\1/')" 123457 "a write to one leaves the other"
same "$(sha256sum <"$mnt/plain")" "$sum" "which is what it was"
iomapctl fiemap "$mnt/clone" | grep -q shared && iomapctl unshare "$mnt/clone" 0 300000
ok $([ $? = 0 ] && ! iomapctl fiemap "$mnt/clone" | grep -q shared; echo $?) "unshare"
same "$(iomapctl info --json "$mnt/clone" 2>/dev/null | python3 -c 'import json,sys; d=json.load(sys.stdin); print(d.get("atomic_write_unit_max", 0))')" \
	0 "no untorn writes are offered"

# ---- Seeded operations, with remounts ---------------------------------------------------------------
remount="umount $mnt && mount.iomapfs -o $IOMAPFS_MOUNT_OPTIONS,dax $img $mnt"
mkdir "$mnt/t"
timeout 180 fsx --dir "$mnt/t" --seconds 4 --seed "$IOMAPFS_SEED" --reopen-cmd "$remount" --reopen-every 700 >"$tmp/log" 2>&1
rc=$?
ok $rc "fsx, seed $IOMAPFS_SEED"
[ $rc = 0 ] || sed 's/^/# /' "$tmp/log" | tail -n 40
timeout 180 fsstress --dir "$mnt/t" --seconds 3 --seed "$IOMAPFS_SEED" --reopen-cmd "$remount" --reopen-every 2000 >"$tmp/log" 2>&1
rc=$?
ok $rc "fsstress, seed $IOMAPFS_SEED"
[ $rc = 0 ] || sed 's/^/# /' "$tmp/log" | tail -n 40
uncached "after them"
umount_it
fsck_it

# ---- As the file system has it afterwards ---------------------------------------------------------------
mount_it
same "$(sha256sum <"$mnt/plain")" "$sum" "without dax again"
umount_it
mount_it dax,ro
same "$(sha256sum <"$mnt/plain") $(touch "$mnt/x" 2>&1 | grep -c 'Read-only')" "$sum 1" "read-only"
umount_it

# ---- A daemon that is killed ------------------------------------------------------------------------------
mount_it dax
pid=$(iomapctl info --json "$mnt" | python3 -c 'import json,sys; print(json.load(sys.stdin)["pid"])')
dd if="$mnt/plain" of="$mnt/kept" bs=7000 conv=fsync status=none
printf tail >>"$mnt/kept"
kill -9 "$pid"
umount "$mnt" 2>/dev/null
mount_it dax
same "$(head -c 300000 "$mnt/kept" | sha256sum)" "$sum" "what was synced before a kill is there"
umount_it
fsck_it

# ---- Under the system call filter, and memory that runs out ---------------------------------------------------
PATH=$IOMAPFS_PLAIN_BIN:$PATH
IOMAPFS_BIN=$IOMAPFS_PLAIN_BIN
mkfs_it 512M
mount_it dax
ok $? "an image larger than the tmpfs it is on"
dd if=/dev/zero of="$mnt/big" bs=1M count=400 status=none 2>"$tmp/out"
ok $([ $? != 0 ]; echo $?) "a write that the memory has no room for is an error"
grep -Eq 'Input/output error|No space left' "$tmp/out"
ok $? "and says so"
ls "$mnt" >"$tmp/out" && grep -q big "$tmp/out"
ok $? "the daemon lives"
umount "$mnt"
mount_it dax && rm -f "$mnt/big" && umount "$mnt" && rm -f "$img"
ok $? "and can be mounted again"
done_testing
