#!/usr/bin/env bash
# A full file system: ENOSPC at write time, nothing written before is lost, all space comes back.
IMG_SIZE=200M
. "$(dirname "$0")/../posix/lib.sh"

free_now() { cd / && sync -f "$mnt"; stat -f -c %f "$mnt"; cd "$dir" || exit 1; }
free0=$(free_now)

# Fill with files whose contents tell what they are; remember what write() took.
python3 - >"$tmp/fill" <<'PY'
import errno, hashlib, os
i = total = 0
late = 0
full = False
while not full:
    fd = os.open(f"f{i}", os.O_CREAT | os.O_WRONLY)
    taken = 0
    for _ in range(40):
        try:
            n = os.write(fd, bytes([i & 255]) * 100000)
            taken += n
            if n < 100000:
                full = True
                break
        except OSError as e:
            assert e.errno == errno.ENOSPC, e
            full = True
            break
    try:
        os.fsync(fd)
    except OSError:
        late += 1
    os.close(fd)
    print(f"f{i}", taken)
    i += 1
print("late", late)
PY
ok $? "writing until ENOSPC"
same "$(tail -1 "$tmp/fill")" "late 0" "no error came later than write()"
grep -v late "$tmp/fill" >"$tmp/files"
check='
import sys
for line in open(sys.argv[1]):
    name, taken = line.split()
    data = open(name, "rb").read()
    if data != bytes([int(name[1:]) & 255]) * int(taken):
        sys.exit(f"{name}: {len(data)} bytes, {taken} were written")
'
python3 -c "$check" "$tmp/files"
ok $? "all that write() took reads back"
: 2>/dev/null >empty
ok 0 "a full file system still answers"
cd /
umount "$mnt" && "$IOMAPFS_BIN/mount.iomapfs" -o "$IOMAPFS_MOUNT_OPTIONS" "$tmp/img" "$mnt"
ok $? "remount of the full file system"
cd "$dir" || exit 1
python3 -c "$check" "$tmp/files"
ok $? "and after the remount"
echo x 2>/dev/null >>f0
rm -f f* empty
ok $? "removing everything"
# Space of unlinked files comes back in the background.
for _ in $(seq 50); do
	[ "$(free_now)" = "$free0" ] && break
	sleep 0.1
done
same "$(free_now)" "$free0" "free blocks are those of the new file system"

# The same with small files: inodes and directories give back their space too.
i=0
while : 2>/dev/null >"s$i" && [ $i -lt 3000 ]; do i=$((i + 1)); done
mkdir -p a/b/c && ln -s x a/l && mkfifo a/p
rm -rf ./*
for _ in $(seq 50); do
	[ "$(free_now)" = "$free0" ] && break
	sleep 0.1
done
same "$(free_now)" "$free0" "and after 3000 small files, directories and symlinks"

# An unlinked open file keeps its space until the last close.
exec 9>held
dd if=/dev/zero bs=1M count=20 status=none >&9
rm held
ok $([ "$(free_now)" -lt "$free0" ]; echo $?) "an unlinked open file still holds its space"
exec 9>&-
for _ in $(seq 50); do
	[ "$(free_now)" = "$free0" ] && break
	sleep 0.1
done
same "$(free_now)" "$free0" "which comes back at the last close"

# Stores into holes through a mapping: the error comes at msync.
python3 - <<'PY'
import errno, mmap, os, sys
st = os.statvfs(".")
size = st.f_bavail * st.f_frsize * 2
fd = os.open("sparse", os.O_CREAT | os.O_RDWR)
os.ftruncate(fd, size)
m = mmap.mmap(fd, size)
try:
    for off in range(0, size, 4096):
        m[off] = 1
    m.flush()
    os.fsync(fd)
except OSError as e:
    sys.exit(0 if e.errno in (errno.ENOSPC, errno.EIO) else 1)
sys.exit(2)
PY
ok $? "stores into holes beyond what is free: an error at msync or fsync"
rm -f sparse
done_testing
