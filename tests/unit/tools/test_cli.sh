#!/bin/sh
# SPDX-License-Identifier: MIT
# mkfs.iomapfs and fsck.iomapfs as commands: exit codes, refusals, messages.
# usage: test_cli.sh MKFS FSCK
mkfs=$1 fsck=$2
. "$(dirname "$0")/want.sh"
put() { # put OFFSET: one byte that was not there before
	printf '\252' | dd of="$img" bs=1 seek="$1" conv=notrunc status=none
}

# Usage, and what cannot be made: nothing is left behind.
want 2 'which device' "$mkfs"
want 2 'power of two' "$mkfs" -b 3000 "$img"
want 2 'not a size' "$mkfs" -s 0 "$img"
want 2 'longer than 64' "$mkfs" -L "$(printf '%065d' 0)" "$img"
want 2 'UTF-8' "$mkfs" -L "$(printf '\377')" "$img"
want 2 'not a UUID' "$mkfs" -U 12 "$img"
want 1 'does not exist' "$mkfs" "$img"
want 1 '16 MiB' "$mkfs" -s 15m "$img"
want 1 'neither a block device' "$mkfs" "$dir"
want 0 'groups' "$mkfs" -n -s 20m "$img"
[ ! -e "$img" ] || { echo "FAILED: something was left behind"; failed=1; }

# Made, refused, forced.
want 0 'features: none' "$mkfs" -n -s 20m --no-reflink "$img"
want 0 'features: reflink' "$mkfs" -s 20MiB -L first "$img"
want 0 'clean' "$fsck" -n "$img"
cp "$img" "$dir/before"
want 3 "label 'first'" "$mkfs" "$img"
want 0 'groups' "$mkfs" -n "$img"
cmp -s "$img" "$dir/before" || { echo "FAILED: refused, but changed"; failed=1; }
want 0 'overwriting' "$mkfs" -f -b 1k "$img"
want 0 'clean' "$fsck" "$img"
want 0 '' "$mkfs" -q -f -s 40m "$img"
[ "$(stat -c %s "$img")" -eq $((40 << 20)) ] || { echo "FAILED: not extended"; failed=1; }
want 0 'clean' "$fsck" -v "$img"
if command -v mke2fs >/dev/null; then
	mke2fs -q -F "$dir/ext" 20m >/dev/null 2>&1
	want 3 'ext2' "$mkfs" "$dir/ext"
fi

# In use by another: refused, and not judged.
if command -v python3 >/dev/null; then
	python3 -c '
import fcntl, struct, subprocess, sys
f = open(sys.argv[1], "r+b")
lock = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0)
fcntl.fcntl(f, 37, lock) # F_OFD_SETLK
codes = [subprocess.run(c, stderr=subprocess.DEVNULL).returncode
         for c in ([sys.argv[2], "-f", sys.argv[1]], [sys.argv[3], sys.argv[1]])]
sys.exit(codes != [1, 8])' "$img" "$mkfs" "$fsck" || { echo "FAILED: lock ignored"; failed=1; }
fi

# fsck: nothing of ours, usage, damage, and its repair.
want 16 'which device' "$fsck"
want 8 'No such file' "$fsck" "$dir/none"
want 8 'no iomapfs' "$fsck" "$0"
put 8300
want 4 'AG-HEADER' "$fsck" -n "$img"
want 16 'only one of' "$fsck" -n -y "$img"
want 4 'nothing was changed' "$fsck" "$img"
# What was unmounted is taken for clean; looked at, this is not for -p to decide.
want 0 'not looked at' "$fsck" -p "$img"
cp "$img" "$dir/before"
want 4 'without -p' "$fsck" -f -p "$img"
cmp -s "$img" "$dir/before" || { echo "FAILED: -p changed what it would not repair"; failed=1; }
want 1 'all repaired' "$fsck" -y "$img"
want 0 'clean$' "$fsck" -n "$img"
# A copy of the superblock costs nobody anything.
put 8388700
want 4 'SB-COPY' "$fsck" -n "$img"
want 1 'all repaired' "$fsck" -f -p "$img"
want 0 'clean$' "$fsck" -f -p "$img"
put 200
want 4 'SB-PRIMARY' "$fsck" "$img"

# How far it is: lines for a descriptor, a bar for a terminal only, wrong descriptors refused.
"$mkfs" -q -f -s 40m "$img"
"$fsck" -n -C 3 "$img" 3>"$dir/lines" >/dev/null
awk -v path="$img" 'NF != 4 || $4 != path || $2 > $3 || $1 < pass { bad = 1 } { pass = $1; seen[$1] = $2 == $3 }
	END { exit bad || !(seen[1] && seen[2] && seen[3] && seen[4] && seen[5]) }' "$dir/lines" ||
	{ echo "FAILED: -C 3:"; cat "$dir/lines"; failed=1; }
want 0 'clean$' "$fsck" -n -C0 "$img"
! grep -q 'pass' "$dir/out" || { echo "FAILED: a bar without a terminal"; failed=1; }
want 8 'no descriptor' "$fsck" -n -C 77 "$img"
want 16 'no descriptor' "$fsck" -n -Cx "$img"
put 8300
python3 -c 'import os, pty, sys
seen = bytearray()
def read(fd):
    data = os.read(fd, 4096)
    seen.extend(data)
    return data
code = os.waitstatus_to_exitcode(pty.spawn([sys.argv[1], "-n", "-C0", sys.argv[2]], read))
text = seen.decode()
bars = text.count("pass 5 of 5 |" + "=" * 40 + "| 100%")
# The bar is taken away before a problem is told, and at the end.
sys.exit(not (code == 4 and bars == 1 and "\r\x1b[Kgroup 0:" in text.replace("\r\n", "\n") and
              "pass 5" not in text.split("\x1b[K")[-1]))' "$fsck" "$img" </dev/null >/dev/null || { echo "FAILED: bar"; failed=1; }
exit $failed
