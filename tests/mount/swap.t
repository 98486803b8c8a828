#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A swap file on a loop device: what can be one and why not, real paging through it, and what is
# refused while it is in use. The kernel takes the blocks from FIBMAP and writes there without the daemon.
. "$(dirname "$0")/lib.sh"
dev=''
# Its pages must not be in memory twice: not on a tmpfs.
img=/var/tmp/iomapfs-swap-$$
end() {
	[ -z "$dev" ] || { swapoff "$mnt"/swap 2>/dev/null; umount "$mnt"; losetup -d "$dev"; } 2>/dev/null
	rm -f "$img"
}
trap 'end; cleanup' EXIT
truncate -s 300M "$img" && mkfs.iomapfs -q "$img" && dev=$(losetup --show -f "$img")
ok $? "a loop device"
# In the foreground, so that its log can be read.
log=$tmp/log
iomapfs -f -o "$IOMAPFS_MOUNT_OPTIONS" "$dev" "$mnt" 2>"$log" &
for _ in $(seq 100); do mountpoint -q "$mnt" && break; sleep 0.1; done
mountpoint -q "$mnt"
ok $? "mount"

# What can be one: exactly the pages of its extents.
dd if=/dev/zero of="$mnt/swap" bs=1M count=64 status=none && chmod 600 "$mnt/swap"
iomapctl --json swapmap "$mnt/swap" >"$tmp/map"
ok $? "iomapctl swapmap"
iomapctl --json fiemap "$mnt/swap" >"$tmp/fiemap"
python3 - "$tmp/map" "$tmp/fiemap" <<'P'
import json, sys
swap, fiemap = (json.load(open(p)) for p in sys.argv[1:])
pages = [(p + i) for e in swap["extents"] for p in [e["device_page"]] for i in range(e["pages"])]
data = [e["address"] // 4096 + i for e in fiemap["extents"] for i in range(e["length"] // 4096)]
used = pages[1:]
sys.exit(not (pages == data and swap["pages"] == 16384 and swap["span"] == 1 + max(used) - min(used)))
P
ok $? "its pages are those of fiemap"
truncate -s 1M "$mnt/hole"
echo small >"$mnt/inline"
fallocate -l 1M "$mnt/unwritten"
fails 1 "swapon cannot use it: the file has holes" "a file with holes" iomapctl swapmap "$mnt/hole"
fails 1 "swapon cannot use it: the file (is inline|has no whole page)" "a small file" iomapctl swapmap "$mnt/inline"
iomapctl swapmap "$mnt/unwritten" >/dev/null
ok $? "an unwritten file can be one"

# The kernel asks block by block and says nothing but "holes"; the reason stands in the log.
dd if=/dev/zero of="$mnt/shared" bs=1M count=2 status=none && iomapctl clone "$mnt/shared" "$mnt/shared2"
ok $? "two files that share blocks"
no_swap() { # FILE REASON
	chmod 600 "$mnt/$1" && mkswap "$mnt/$1" >/dev/null 2>&1
	# swapon(8) counts blocks and does not even ask.
	python3 -c 'import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
sys.exit(not (libc.swapon(os.fsencode(sys.argv[1]), 0) == -1 and ctypes.get_errno() == 22))' "$mnt/$1"
	ok $? "swapon(2) refuses $1"
	sleep 1.1 # one line a second
	tail -n 1 "$log" | grep -q "cannot be a swap file: the file $2"
	ok $? "and the log says why"
}
if ! grep -qiE "function not implemented" < <(swapon /dev/null 2>&1); then
	dd if=/dev/zero of="$mnt/hole" bs=64k count=4 conv=notrunc status=none
	no_swap hole "has holes"
	no_swap shared "shares blocks"
	fails 1 "the file shares blocks" "a file that shares blocks" iomapctl swapmap "$mnt/shared"
fi

if ! mkswap "$mnt/swap" >"$tmp/out" 2>&1 || ! swapon "$mnt/swap" 2>>"$tmp/out"; then
	# Machines without swap: what is left of the test needs it.
	if grep -qiE "function not implemented|operation not permitted" "$tmp/out"; then
		skip "swapon" "this kernel has no swap"
		umount "$mnt"
		losetup -d "$dev"
		dev=''
		fsck_it
		done_testing
		exit 0
	fi
	sed 's/^/# /' "$tmp/out"
	ok 1 "mkswap and swapon"
fi
grep -q "^$mnt/swap" /proc/swaps
ok $? "mkswap and swapon"
for how in 'echo x >>' 'truncate -s 1M' 'fallocate -p -o 0 -l 4096' 'rm -f'; do
	sh -c "$how '$mnt/swap'" 2>/dev/null
	[ $? != 0 ]
	ok $? "while it is in use: no $how"
done
# What passes the kernel's own checks by. The first block of the range may be as it likes.
dd if=/dev/urandom of="$mnt/other" bs=1M count=1 status=none && sync "$mnt/other"
for how in 'collapse swap 0 4096' 'insert swap 0 4096' 'unshare swap 0 4096' 'clone other swap' \
	'clone swap other' 'dedupe other swap' 'dedupe swap other --length 4096'; do
	# shellcheck disable=SC2086 # words
	! (cd "$mnt" && iomapctl $how) >"$tmp/out" 2>&1 && grep -q "Text file busy" "$tmp/out"
	rc=$?
	ok $rc "while it is in use: no iomapctl $how"
	[ $rc = 0 ] || sed 's/^/# /' "$tmp/out"
done
iomapctl swapmap "$mnt/swap" >"$tmp/after" 2>&1 && iomapctl --json swapmap "$mnt/swap" >"$tmp/map2" && cmp -s "$tmp/map" "$tmp/map2"
ok $? "its blocks are where they were"
# Pages that are only in the file when they are looked at again.
timeout 120 python3 - >"$tmp/out" 2>&1 <<'P'
import ctypes, mmap, os, re
MADV_PAGEOUT, SIZE = 21, 24 << 20
libc = ctypes.CDLL(None, use_errno=True)

def used():
    return sum(int(l.split()[3]) for l in open("/proc/swaps").readlines()[1:])

m = mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
for p in range(0, SIZE, 4096):
    m[p:p + 16] = p.to_bytes(8, "little") * 2
addr = ctypes.addressof(ctypes.c_char.from_buffer(m))
assert libc.madvise(ctypes.c_void_p(addr), ctypes.c_size_t(SIZE), MADV_PAGEOUT) == 0, ctypes.get_errno()
out = used()
bad = sum(m[p:p + 16] != p.to_bytes(8, "little") * 2 for p in range(0, SIZE, 4096))
print(f"swapped {out} KiB, {bad} bad pages")
P
same "$(sed -n 's/.* \([0-9]*\) bad pages/\1/p' "$tmp/out")" 0 "24 MiB come back as they were"
ok $(($(sed -n 's/swapped \([0-9]*\) .*/\1/p' "$tmp/out") < 16000)) "most of it was in the file"
sed 's/^/# /' "$tmp/out"
swapoff "$mnt/swap"
ok $? "swapoff"
echo x >>"$mnt/swap" && truncate -s 1M "$mnt/swap" && rm "$mnt/swap"
ok $? "afterwards it is a file as any other"
umount "$mnt"
ok $? "umount"
iomapctl wait --timeout 60 "$img"
losetup -d "$dev"
dev=''
fsck_it
done_testing
