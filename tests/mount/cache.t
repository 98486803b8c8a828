#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The kernel's cache in its three modes: nothing that anyone wrote, by write() or through a mapping,
# is missed by seek, fiemap, copies or a shorter rewrite; setuid goes away when contents change.
. "$(dirname "$0")/lib.sh"
mkfs_it 512M

cat >"$tmp/t.py" <<'PY'
import mmap, os, subprocess, sys, ctypes
os.chdir(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
bad = 0
def check(cond, what):
    global bad
    print(("pass " if cond else "FAIL ") + what)
    bad += not cond

def segments(fd, size):
    out, pos = [], 0
    while True:
        try:
            d = os.lseek(fd, pos, os.SEEK_DATA)
        except OSError:
            return out
        pos = os.lseek(fd, d, os.SEEK_HOLE)
        out.append((d, pos))
        if pos >= size:
            return out

# Right after a write into a hole.
fd = os.open("sparse", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
os.ftruncate(fd, 8 << 20)
os.pwrite(fd, b"x" * 4096, 4 << 20)
seg = segments(fd, 8 << 20)
check(any(a <= 4 << 20 < b for a, b in seg), "SEEK_DATA finds what write() just wrote")

# A store into a live mapping of another process (this one holds it while cp runs).
m = mmap.mmap(fd, 8 << 20, mmap.MAP_SHARED)
m[1 << 20] = 77
m[(6 << 20) + 5] = 78
other = os.open("sparse", os.O_RDONLY)
seg = segments(other, 8 << 20)
check(any(a <= 1 << 20 < b for a, b in seg), "SEEK_DATA finds a store of a live mapping")
m[(7 << 20) + 1] = 79
subprocess.check_call(["cp", "--sparse=auto", "--reflink=never", "sparse", "copy"])
with open("copy", "rb") as f:
    c = f.read()
check(len(c) == 8 << 20 and c[1 << 20] == 77 and c[(6 << 20) + 5] == 78 and c[(7 << 20) + 1] == 79 and
      c[4 << 20:(4 << 20) + 4096] == b"x" * 4096, "cp --sparse=auto loses no store")
m[(2 << 20) + 1] = 80
subprocess.check_call(["cp", "sparse", "copy2"])
with open("copy2", "rb") as f:
    c = f.read()
check(c[(2 << 20) + 1] == 80 and c[1 << 20] == 77, "cp by copy_file_range loses no store")
m[(3 << 20) + 1] = 81
out = subprocess.run(["iomapctl", "fiemap", "--json", "sparse"], stdout=subprocess.PIPE).stdout
import json
ext = json.loads(out)["extents"]
check(any(e["offset"] <= 3 << 20 < e["offset"] + e["length"] for e in ext), "fiemap sees a store")
m.close()
os.close(other)

# copy_file_range replaces what was cached of the destination.
a = os.open("a", os.O_RDWR | os.O_CREAT); os.write(a, b"A" * 65536)
b = os.open("b", os.O_RDWR | os.O_CREAT); os.write(b, b"B" * 65536)
os.pread(b, 65536, 0)
mb = mmap.mmap(b, 65536, mmap.MAP_SHARED); assert mb[0] == 66
check(os.copy_file_range(a, b, 32768, 0, 16384) == 32768, "copy_file_range copies")
want = b"B" * 16384 + b"A" * 32768 + b"B" * 16384
check(os.pread(b, 65536, 0) == want and bytes(mb) == want, "copy_file_range shows in cache and mapping")
mb.close()

# Shorter rewrites, appends, sizes.
for i in range(20):
    with open("f", "w") as f: f.write("long content %d\n" % i * 1000)
    os.close(os.open("f", os.O_WRONLY | os.O_TRUNC))
    with open("f", "r+") as f: f.write("s%d" % i)
    if open("f").read() != "s%d" % i or os.stat("f").st_size != len("s%d" % i):
        check(False, "open with O_TRUNC, then less"); break
else:
    check(True, "open with O_TRUNC, then less")
with open("f", "a") as f: f.write("tail"); f.flush(); check(os.stat("f").st_size == 7, "append moves the size")
os.truncate("f", 100000); check(open("f", "rb").read()[7:] == b"\0" * 99993, "truncate up reads zeros")
fd = os.open("m", os.O_RDWR | os.O_CREAT); os.ftruncate(fd, 5000)
m = mmap.mmap(fd, 5000, mmap.MAP_SHARED); m[4999] = 65; m.flush()
# Beyond EOF in the last page: never data.
os.ftruncate(fd, 9000)
check(os.pread(fd, 4000, 5000) == b"\0" * 4000 and os.fstat(fd).st_size == 9000, "a cache write does not grow a file")
m.close()
st = os.stat("m"); os.link("m", "m2"); check(os.stat("m").st_nlink == 2, "link count by the other name")
os.unlink("m"); check(os.stat("m2").st_nlink == 1, "link count after unlink")
fd = os.open("direct", os.O_RDWR | os.O_CREAT | os.O_DIRECT)
buf = mmap.mmap(-1, 65536); buf.write(b"D" * 65536)
os.writev(fd, [buf]); check(open("direct", "rb").read() == b"D" * 65536, "direct write, cached read")
with open("direct", "r+b") as f: f.write(b"C" * 5)
buf.seek(0); os.preadv(fd, [buf], 0); check(buf[:6] == b"CCCCCD", "cached write, direct read")
sys.exit(bad != 0)
PY
cat >"$tmp/suid.py" <<'PY'
import ctypes, mmap, os, shutil, subprocess, sys
os.chdir(sys.argv[1])
bad = 0
def victim():
    if os.path.exists("victim"): os.unlink("victim")
    shutil.copy("/usr/bin/id", "victim"); os.chown("victim", 0, 0); os.chmod("victim", 0o4777)
    assert run() == "0", "setuid works at all"
def run():
    return subprocess.run(["setpriv", "--reuid=1234", "--regid=1234", "--clear-groups", "./victim", "-u"],
                          stdout=subprocess.PIPE, text=True).stdout.strip()
def as_user(fn):
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([]); os.setgid(1234); os.setuid(1234); fn(); os._exit(0)
        except Exception as e:
            print("#", e); os._exit(1)
    return os.waitpid(pid, 0)[1] == 0
def opened(flags=os.O_RDWR): return os.open("victim", flags)
def w_write(): fd = opened(); b = os.pread(fd, 1, 0); os.pwrite(fd, b, 0)
def w_mmap(): fd = opened(); m = mmap.mmap(fd, 4096); m[0] = m[0]; m.flush()
def w_truncate(): os.truncate("victim", os.stat("victim").st_size + 1)
def w_ftruncate(): os.ftruncate(opened(), 10**6)
def w_fallocate(): os.posix_fallocate(opened(), 0, 4096 * 100)
def w_cfr():
    s = os.open("/proc/self/cwd/src", os.O_RDONLY); os.copy_file_range(s, opened(), 4096, 0, 0)
def w_direct():
    fd = opened(os.O_RDWR | os.O_DIRECT); b = mmap.mmap(-1, 4096); os.preadv(fd, [b], 0); os.pwritev(fd, [b], 0)
shutil.copy("/usr/bin/id", "src"); os.chmod("src", 0o755)
for fn in (w_write, w_mmap, w_truncate, w_ftruncate, w_fallocate, w_cfr, w_direct):
    victim()
    ok = as_user(fn) and run() == "1234" and os.stat("victim").st_mode & 0o7000 == 0
    # The kernel itself keeps setuid for stores through a mapping; only the write-back may clear it.
    print(("pass " if ok else "FAIL ") + "no longer setuid after " + fn.__name__[2:], run(), oct(os.stat("victim").st_mode))
    bad += not ok
victim(); as_user(lambda: os.close(opened(os.O_WRONLY | os.O_TRUNC)))
ok = os.stat("victim").st_mode & 0o7000 == 0; bad += not ok
print(("pass " if ok else "FAIL ") + "no longer setuid after O_TRUNC")
sys.exit(bad != 0)
PY
for mode in through writeback none; do
	mount_it kernel_cache=$mode
	ok $? "mount with kernel_cache=$mode"
	mkdir -p "$mnt/$mode"
	chmod 777 "$mnt/$mode"
	python3 "$tmp/t.py" "$mnt/$mode" >"$tmp/log" 2>&1
	rc=$?
	ok $rc "$mode: nothing is missed or stale"
	[ $rc = 0 ] || grep -v ^pass "$tmp/log" | sed 's/^/# /'
	python3 "$tmp/suid.py" "$mnt/$mode" >"$tmp/log" 2>&1
	rc=$?
	ok $rc "$mode: setuid is cleared by every way to change contents"
	[ $rc = 0 ] || grep -v ^pass "$tmp/log" | sed 's/^/# /'
	(cd "$mnt/$mode" && find . -type f | sort | xargs sha256sum) >"$tmp/sums"
	umount_it
	ok $? "$mode: unmount"
	fsck_it
	mount_it ro,kernel_cache=$mode
	(cd "$mnt/$mode" && sha256sum --quiet -c "$tmp/sums") >"$tmp/log" 2>&1
	rc=$?
	ok $rc "$mode: every byte is there after a remount"
	[ $rc = 0 ] || sed 's/^/# /' "$tmp/log"
	umount_it
done
done_testing
