#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What the kernel keeps from a mount: collapse, insert, unshare, clone, dedupe, untorn writes; by
# iomapctl and by stock programs under iomapctl exec.
. "$(dirname "$0")/lib.sh"
mkfs_it && mount_it
ok $? "mount"
cd "$tmp" || exit 1

size_of() { stat -c %s "$1"; }
# equal NAME A B: bytes, and what the kernel has cached of them.
equal() { cmp "$2" "$3" >"$tmp/out" 2>&1; local rc=$?; ok $rc "$1"; [ $rc = 0 ] || sed 's/^/# /' "$tmp/out"; }

# ---- collapse and insert, against a copy made by hand; the kernel has cached all of it.
dd if=/dev/urandom of=old bs=4096 count=100 status=none && printf 'tail' >>old
cp old "$mnt/f" && cat "$mnt/f" >/dev/null
{ head -c $((4096 * 10)) old; tail -c +$((4096 * 30 + 1)) old; } >new
iomapctl collapse "$mnt/f" $((4096 * 10)) $((4096 * 20))
ok $? "iomapctl collapse"
same "$(size_of "$mnt/f")" "$(size_of new)" "the size, as the kernel tells it"
equal "what is read through its cache is the new file" new "$mnt/f"
{ head -c 4096 new; head -c 12288 /dev/zero; tail -c +4097 new; } >newer
iomapctl insert "$mnt/f" 4096 12288
ok $? "iomapctl insert"
equal "and it is as it should be" newer "$mnt/f"
fails 1 "must be whole blocks.*a block has 4096 bytes" "half a block" iomapctl collapse "$mnt/f" 0 100
fails 1 "before the end of the file" "up to the end" iomapctl collapse "$mnt/f" 0 $((1 << 30))
fails 1 "inside the file" "an insertion at the end" iomapctl insert "$mnt/f" $((1 << 30)) 4096
fails 1 "not on an iomapfs" "elsewhere" iomapctl insert "$tmp/old" 0 4096
fails 2 "usage: iomapctl collapse FILE OFFSET LENGTH" "no numbers" iomapctl collapse "$mnt/f"
fails 2 "'x' is no number" "no number" iomapctl collapse "$mnt/f" x 1

# ---- the same by stock programs
cp old "$mnt/g" && cat "$mnt/g" >/dev/null
iomapctl exec fallocate -c -o $((4096 * 10)) -l $((4096 * 20)) "$mnt/g"
ok $? "fallocate -c"
equal "did it" new "$mnt/g"
iomapctl exec fallocate -i -o 4096 -l 12288 "$mnt/g"
ok $? "fallocate -i"
equal "did it" newer "$mnt/g"
iomapctl exec xfs_io -c 'fcollapse 4096 12288' "$mnt/g" && cmp -s new "$mnt/g"
ok $? "xfs_io -c fcollapse"
! fallocate -c -o 0 -l 4096 "$mnt/g" 2>/dev/null
ok $? "without the library, the kernel refuses"
! iomapctl exec fallocate -c -o 1 -l 4096 "$mnt/g" 2>"$tmp/err" && grep -q "Invalid argument" "$tmp/err"
ok $? "its errors are those of the call"
# Elsewhere the kernel's own word stands.
cp old "$tmp/h" && fallocate -c -o 0 -l 4096 "$tmp/h" 2>"$tmp/a"; rc=$?
cp old "$tmp/h2" && iomapctl exec fallocate -c -o 0 -l 4096 "$tmp/h2" 2>"$tmp/b"
same "$?" "$rc" "other file systems: the same exit code"
cmp -s "$tmp/h" "$tmp/h2"
ok $? "and the same file"

# Stores through a mapping that nobody has told the daemon of are part of what moves; and a mapping
# sees what is there afterwards.
cat >"$tmp/map.py" <<'P'
import mmap, os, subprocess, sys
p = sys.argv[1]
fd = os.open(p, os.O_RDWR)
m = mmap.mmap(fd, 0)
m[8192:8197] = b"store"
assert subprocess.run(["iomapctl", "insert", p, "4096", "4096"]).returncode == 0
assert m[12288:12293] == b"store", m[12288:12293]
assert m[4096:8192] == bytes(4096)
assert os.pread(fd, 5, 12288) == b"store"
assert os.fstat(fd).st_size == len(m) + 4096
P
python3 "$tmp/map.py" "$mnt/g" 2>"$tmp/err"
rc=$?
ok $rc "a mapping before and after"
sed 's/^/# /' "$tmp/err"

# ---- clone
shared() { iomapctl fiemap "$1" | grep -q shared; }
blocks_free() { sync -f "$mnt"; stat -f -c %f "$mnt"; }
cat old >"$mnt/a" && sync "$mnt/a" && cat "$mnt/a" >/dev/null
before=$(blocks_free)
iomapctl clone "$mnt/a" "$mnt/b"
ok $? "iomapctl clone makes its target"
equal "with the bytes of the source" old "$mnt/b"
shared "$mnt/a" && shared "$mnt/b"
ok $? "both share"
ok $(($(blocks_free) + 16 < before)) "and no space was used"
cp old edited && printf 'mine' | dd of=edited bs=1 seek=5000 conv=notrunc status=none
printf 'mine' | dd of="$mnt/b" bs=1 seek=5000 conv=notrunc status=none && sync "$mnt/b"
equal "what is written to one" edited "$mnt/b"
equal "leaves the other" old "$mnt/a"
# A range into the middle of a file whose pages the kernel has.
cat newer >"$mnt/c" && cat "$mnt/c" >/dev/null
iomapctl clone --src-offset 8192 --dst-offset 4096 --length 16384 "$mnt/a" "$mnt/c"
ok $? "a range"
{ head -c 4096 newer; tail -c +8193 old | head -c 16384; tail -c +$((4096 + 16384 + 1)) newer; } >ranged
equal "is there, also through the kernel's cache" ranged "$mnt/c"
fails 1 "must be whole blocks" "half a block" iomapctl clone --src-offset 5 "$mnt/a" "$mnt/c"
fails 1 "not on the file system of" "another file system" iomapctl clone "$mnt/a" "$tmp/other"
fails 1 "not on an iomapfs" "a source elsewhere" iomapctl clone "$tmp/old" "$mnt/c"
fails 2 "usage: iomapctl clone SOURCE TARGET" "no target" iomapctl clone "$mnt/a"

# ---- dedupe and unshare
cat old >"$mnt/d" && sync "$mnt/d"
same "$(iomapctl dedupe "$mnt/a" "$mnt/d")" "$(size_of old) bytes deduped" "iomapctl dedupe"
shared "$mnt/d"
ok $? "shares"
fails 1 "its contents differ" "other contents" iomapctl dedupe --length 8192 "$mnt/a" "$mnt/b"
iomapctl unshare "$mnt/d" 0 "$(size_of old)" && ! shared "$mnt/d"
ok $? "iomapctl unshare gives it blocks of its own"
equal "with what they had" old "$mnt/d"

# ---- by stock programs
iomapctl exec cp --reflink=always "$mnt/a" "$mnt/e" && shared "$mnt/e" && cmp -s old "$mnt/e"
ok $? "cp --reflink=always"
iomapctl exec filefrag -v "$mnt/e" | grep -q shared
ok $? "filefrag -v shows shared"
! cp --reflink=always "$mnt/a" "$mnt/e2" 2>/dev/null
ok $? "without the library, the kernel refuses"
cat newer >"$mnt/h" && iomapctl exec xfs_io -c "reflink $mnt/a 8192 4096 16384" "$mnt/h" >/dev/null
ok $? "xfs_io -c reflink"
equal "did it" ranged "$mnt/h"
cat old >"$mnt/i" && sync "$mnt/i" && iomapctl exec xfs_io -c "dedupe $mnt/a 0 0 40960" "$mnt/i" >/dev/null && shared "$mnt/i"
ok $? "xfs_io -c dedupe"
iomapctl exec xfs_io -c 'funshare 0 40960' "$mnt/i" && ! shared "$mnt/i"
ok $? "xfs_io -c funshare"
mkdir "$mnt/dup" && for i in 1 2 3; do cat old >"$mnt/dup/$i"; done && sync -f "$mnt"
printf "%s\n" "$mnt"/dup/? "" | iomapctl exec duperemove --fdupes >"$tmp/out" 2>&1
rc=$?
[ $rc = 0 ] && shared "$mnt/dup/1" && shared "$mnt/dup/2" && shared "$mnt/dup/3"
rc=$?
ok $rc "duperemove --fdupes"
[ $rc = 0 ] || sed 's/^/# /' "$tmp/out"
for i in 1 2 3; do cmp -s old "$mnt/dup/$i" || break; done
ok $? "leaves them as they were"
! iomapctl exec cp --reflink=always "$mnt/a" "$tmp/x" 2>"$tmp/err" && grep -qi "cross-device" "$tmp/err"
ok $? "to another file system: EXDEV, as ever"

# ---- how a handle writes
iomapctl write --dontcache "$mnt/w" 4096 <old && tail -c +4097 "$mnt/w" | cmp -s - old
ok $? "iomapctl write --dontcache"
max=$(iomapctl --json info "$mnt" | python3 -c 'import json,sys; print(json.load(sys.stdin)["untorn_writes"]["unit_max"])')
if [ "$max" -gt 0 ]; then
	head -c 16384 old | iomapctl write --atomic "$mnt/w" 16384
	ok $? "iomapctl write --atomic"
	tail -c +16385 "$mnt/w" | head -c 16384 | cmp -s - <(head -c 16384 old)
	ok $? "wrote it"
	head -c 12288 old >third
	fails 1 "a power of two, at a multiple of it" "another length" iomapctl write --atomic "$mnt/w" 0 <third
	head -c 8192 old >two
	fails 1 "a power of two, at a multiple of it" "another place" iomapctl write --atomic "$mnt/w" 4096 <two
else
	skip "iomapctl write --atomic" "no untorn writes here"
fi

dd if=/dev/urandom of=big bs=1M count=16 status=none
cached() { iomapctl --json stats "$mnt" | python3 -c 'import json,sys; print(json.load(sys.stdin)["cached_bytes"])'; }
before=$(cached)
iomapctl write --dontcache "$mnt/big" 0 <big && sync "$mnt/big"
# What was written goes with the end of its writeback, which sync does not wait for to the last folio.
for _ in $(seq 20); do [ $(($(cached) - before)) -lt $((8 << 20)) ] && break; sleep 0.1; done
ok $(($(cached) - before >= 8 << 20)) "16 MiB of it are not kept: $(($(cached) - before))"
equal "and are there" big "$mnt/big"
umount_it && mount_it
cat >"$tmp/nowait.py" <<'P'
import errno, fcntl, os, struct, sys
want = open(sys.argv[2], "rb").read(65536)
fd = os.open(sys.argv[1], os.O_RDONLY)
direct = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECT)
IOFLAGS = 3 << 30 | 8 << 16 | 0xF5 << 8 | 14
set_flags = lambda fd, f: fcntl.ioctl(fd, IOFLAGS, struct.pack("=II", f, 0))
set_flags(fd, 8)
try:
    os.pread(fd, 65536, 8 << 20)
    raise SystemExit("read what nobody had in memory, without waiting")
except BlockingIOError:
    pass
set_flags(fd, 0)
assert os.pread(fd, 65536, 0) == want
set_flags(direct, 4)
import mmap
m = mmap.mmap(-1, 65536)
assert os.preadv(direct, [m], 0) == 65536 and m[:] == want
P
python3 "$tmp/nowait.py" "$mnt/big" big 2>"$tmp/err"
rc=$?
ok $rc "a handle that does not wait, one that polls"
sed 's/^/# /' "$tmp/err"

# ---- who may
cat >"$tmp/who.py" <<'P'
import ctypes, errno, fcntl, os, struct, sys
p, d = sys.argv[1:]
def ioc(nr, size): return 3 << 30 | size << 16 | 0xF5 << 8 | nr
FALLOC, HANDLE, CLONE, DEDUPE = ioc(10, 32), ioc(11, 32), ioc(12, 56), ioc(13, 64)
def call(fd, cmd, buf):
    try:
        return fcntl.ioctl(fd, cmd, buf)
    except OSError as e:
        return e.errno
ro, wo, rw = (os.open(p, f) for f in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR))
falloc = struct.pack("=QQIIQ", 0, 4096, 0x20, 0, 0)
assert call(ro, FALLOC, falloc) == errno.EBADF
assert call(rw, FALLOC, struct.pack("=QQIIQ", 0, 4096, 0x20, 1, 0)) == errno.EINVAL
assert call(os.open(d, os.O_RDONLY), FALLOC, falloc) == errno.EISDIR
assert call(wo, HANDLE, bytes(32)) == errno.EBADF, "a source that may not be read"
token = call(ro, HANDLE, bytes(32))[:24]
assert call(ro, HANDLE, bytes(32))[:24] == token and call(rw, HANDLE, bytes(32))[:24] != token
bad = bytearray(token); bad[-1] ^= 1
clone = lambda t: bytes(t) + struct.pack("=QQQQ", 0, 4096, 8192, 0)
assert call(ro, CLONE, clone(token)) == errno.EBADF, "a target that may not be written"
assert call(rw, CLONE, clone(bad)) == errno.ESTALE, "a token that was guessed"
assert call(rw, CLONE, clone(bytes(24))) == errno.ESTALE
out = call(rw, CLONE, clone(token))
assert isinstance(out, bytes) and struct.unpack("=Q", out[-8:])[0] == os.fstat(rw).st_size, out
assert os.pread(rw, 4096, 0) == os.pread(rw, 4096, 8192)
IOFLAGS = ioc(14, 8)
direct = os.open(p, os.O_RDWR | os.O_DIRECT)
flags = lambda fd, f: call(fd, IOFLAGS, struct.pack("=II", f, 0))
assert flags(rw, 1) == errno.EINVAL, "untorn, not O_DIRECT"
assert flags(direct, 2) == errno.EINVAL, "dontcache, O_DIRECT"
assert flags(rw, 1 << 7) == errno.EINVAL
assert flags(direct, 4) == struct.pack("=II", 0, 0) and flags(direct, 8) == struct.pack("=II", 4, 0)
assert flags(rw, 2) == struct.pack("=II", 0, 0) and flags(rw, 0) == struct.pack("=II", 2, 0)
os.close(ro)
assert call(rw, CLONE, clone(token)) == errno.ESTALE, "a token of a handle that was closed"
P
python3 "$tmp/who.py" "$mnt/g" "$mnt" 2>"$tmp/err"
rc=$?
ok $rc "handles, tokens, refusals"
sed 's/^/# /' "$tmp/err"
umount_it
fsck_it
done_testing
