#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Stock programs that ask for FS_IOC_FIEMAP, by iomapctl exec; and FIBMAP on a block device without it.
. "$(dirname "$0")/lib.sh"
dev=''
trap '[ -z "$dev" ] || { umount "$mnt"; losetup -d "$dev"; } 2>/dev/null; cleanup' EXIT
mkfs_it && mount_it
ok $? "mount"

# Extents as "offset length flags" in bytes, as each program has them.
of_ctl() { iomapctl --json fiemap "$1" | python3 -c '
import json, sys
for e in json.load(sys.stdin)["extents"]:
    f = [x for x in e["flags"] if x in ("unwritten", "delalloc", "last")]
    print(e["offset"], e["length"], "-" if "delalloc" in f else e["address"], ",".join(sorted(f)))'; }
of_filefrag() { iomapctl exec filefrag -b1 -v "$1" | python3 -c '
import re, sys
for line in sys.stdin:
    m = re.match(r" *\d+: +(\d+)\.\. *(\d+): +(\d+)\.\. *\d+: +\d+:(.*)", line)
    if m:
        f = [x for x in ("unwritten", "delalloc", "last") if x in m[4]]
        print(m[1], int(m[2]) - int(m[1]) + 1, "-" if "delalloc" in f else m[3], ",".join(sorted(f)))'; }

dd if=/dev/urandom of="$mnt/f" bs=1M count=1 status=none && sync "$mnt/f"
fallocate -o 2M -l 1M "$mnt/f"
dd if=/dev/urandom of="$mnt/f" bs=64k seek=64 count=1 conv=notrunc status=none
of_ctl "$mnt/f" >"$tmp/a"
of_filefrag "$mnt/f" >"$tmp/b"
[ -s "$tmp/a" ] && cmp "$tmp/a" "$tmp/b"
rc=$?
ok $rc "filefrag -v has the extents of iomapctl fiemap"
[ $rc = 0 ] || sed 's/^/# /' "$tmp/a" "$tmp/b"
grep -q 'unwritten$' "$tmp/b"
ok $? "with those that were allocated and not written"
dd if=/dev/urandom of="$mnt/d" bs=64k count=1 status=none && of_filefrag "$mnt/d" >"$tmp/b"
# The flusher has seconds; this takes milliseconds, but is asked for again where a machine stalls.
for i in 1 2 3 4 5; do
	grep -q delalloc "$tmp/b" && break
	dd if=/dev/urandom of="$mnt/d$i" bs=64k count=1 status=none && of_filefrag "$mnt/d$i" >"$tmp/b"
done
grep -q delalloc "$tmp/b"
ok $? "and those that have no place yet"
iomapctl exec xfs_io -r -c 'fiemap -v' "$mnt/f" >"$tmp/out" 2>&1
rc=$?
ok $rc "xfs_io -c fiemap"
same "$(grep -cE '^ +[0-9]+: .*\.\.' "$tmp/out")" "$(($(wc -l <"$tmp/a") + 2))" "its extents and the two holes"
! filefrag -v "$mnt/f" 2>&1 | grep -q unwritten
ok $? "without, the kernel refuses"

# More than one ioctl of ours holds, into one array of the caller's; counting; flags that nobody knows.
cat >"$tmp/many.py" <<'P'
import ctypes, os, struct, sys
NR, BLOCK = 700, 4096
FIEMAP, EBADR = 0xC020660B, 53
libc = ctypes.CDLL(None, use_errno=True)
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o600)
for i in range(NR):
    os.pwrite(fd, b"x" * BLOCK, i * 2 * BLOCK)
def ask(start, length, flags, count):
    buf = ctypes.create_string_buffer(32 + 56 * max(count, 1))
    struct.pack_into("=QQIIII", buf, 0, start, length, flags, 0xDEAD, count, 0)
    ret = libc.ioctl(fd, ctypes.c_ulong(FIEMAP), buf)
    head = struct.unpack_from("=QQIIII", buf, 0)
    return ret, ctypes.get_errno(), head, [struct.unpack_from("=QQQQQIIII", buf, 32 + 56 * i)
                                           for i in range(head[3] if ret == 0 and count else 0)]
# What is kept past the end for more to come is none of the question.
END = (2 * NR - 1) * BLOCK
ret, err, head, ext = ask(0, END, 1, 1000)
assert ret == 0 and head[3] == NR, (ret, err, head)
assert [(e[0], e[2]) for e in ext] == [(i * 2 * BLOCK, BLOCK) for i in range(NR)], ext[:3]
assert [bool(e[5] & 1) for e in ext] == [False] * (NR - 1) + [True]
ret, err, head, ext = ask(0, END, 0, 400)
assert ret == 0 and head[3] == 400 and not ext[-1][5] & 1, head
ret, err, head, _ = ask(0, END, 0, 0)
assert ret == 0 and head[3] == NR, head
ret, err, head, _ = ask(0, END, 1 << 30 | 1, 10)
assert ret == -1 and err == EBADR and head[2] == 1 << 30, (ret, err, head)
ret, err, head, _ = ask(0, 0, 0, 10)
assert ret == -1 and err == 22, (ret, err)
ret, err, head, ext = ask(2 * BLOCK, 4 * BLOCK, 0, 10)
assert ret == 0 and [e[0] for e in ext] == [2 * BLOCK, 4 * BLOCK], ext
P
iomapctl exec python3 "$tmp/many.py" "$mnt/many" 2>"$tmp/err"
rc=$?
ok $rc "paging, counting, EBADR with the flags, EINVAL"
sed 's/^/# /' "$tmp/err"

# Elsewhere nothing changes.
for where in "$tmp" /dev/shm; do
	dd if=/dev/urandom of="$where/iomapfs-exec-$$" bs=64k count=3 status=none && sync "$where/iomapfs-exec-$$"
	filefrag -v "$where/iomapfs-exec-$$" >"$tmp/a" 2>&1
	echo $? >>"$tmp/a"
	iomapctl exec filefrag -v "$where/iomapfs-exec-$$" >"$tmp/b" 2>&1
	echo $? >>"$tmp/b"
	cmp "$tmp/a" "$tmp/b"
	ok $? "$where: the same, byte for byte"
	rm -f "$where/iomapfs-exec-$$"
done

# exec as a shell has it.
iomapctl exec sh -c 'exit 42'
same $? 42 "the command's own exit code"
fails 127 'No such file' "a command that is not there" iomapctl exec /nonexistent/cmd
fails 126 'denied' "a file that cannot be run" iomapctl exec "$tmp/many.py"
fails 2 'Usage' "no command" iomapctl exec
# A sanitizer in iomapctl itself insists on being first.
same "$(LD_PRELOAD=libm.so.6 ASAN_OPTIONS=verify_asan_link_order=0:detect_leaks=0 iomapctl exec sh -c 'echo "${LD_PRELOAD%%:*}"')" libm.so.6 "LD_PRELOAD keeps what it had"
umount_it
fsck_it

# On a block device the kernel asks for FIBMAP itself.
dev=$(losetup --show -f "$img") && mount.iomapfs -o "$IOMAPFS_MOUNT_OPTIONS" "$dev" "$mnt"
ok $? "the same image as a block device"
truncate -s 0 "$mnt/f" && dd if=/dev/urandom of="$mnt/f" bs=1M count=1 status=none && sync "$mnt/f"
filefrag -B -e -v "$mnt/f" >"$tmp/out" 2>&1
same "$(sed -n 's/^ *0: *0\.\. *[0-9]*: *\([0-9]*\)\.\..*/\1/p' "$tmp/out")" \
	"$(iomapctl --json fiemap "$mnt/f" | python3 -c 'import json,sys; print(json.load(sys.stdin)["extents"][0]["address"] // 4096)')" \
	"filefrag -B -e -v by FIBMAP, without the library"
filefrag -e -v "$mnt/f" 2>&1 | grep -qE '1 extent found|[0-9]+ extents? found'
ok $? "filefrag -e -v falls back to it"
umount "$mnt"
losetup -d "$dev"
dev=''
fsck_it
done_testing
