#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# memory= holds while the kernel knows far more files than it has room for, and what the kernel
# knows is there nevertheless: also without a name, until it forgets it.
. "$(dirname "$0")/lib.sh"
FILES=60000
MEMORY_MIB=32
# One inode in memory costs no less than this; their share is an eighth, passed by a quarter at most.
INODES_MAX=$((MEMORY_MIB * 1024 * 1024 / 8 / 1500 * 5 / 4))
mkfs_it 512M
mount_it memory=${MEMORY_MIB}M
ok $? "mount with memory=${MEMORY_MIB}M"

stat_of() { iomapctl --json stats "$mnt" | python3 -c "import json,sys; print(json.load(sys.stdin)['$1'])"; }
rss_mib() {
	local pid
	pid=$(iomapctl --json info "$mnt" | python3 -c "import json,sys; print(json.load(sys.stdin)['pid'])")
	awk '/VmRSS/ { print int($2 / 1024) }' "/proc/$pid/status"
}
free_now() { stat -f -c '%f %d' "$mnt"; }

sync -f "$mnt"
free0=$(free_now)
python3 - "$mnt" $FILES <<'PY'
import os, sys
root, n = sys.argv[1], int(sys.argv[2])
for i in range(n):
    if i % 1000 == 0:
        os.mkdir(f"{root}/d{i // 1000}")
    fd = os.open(f"{root}/d{i // 1000}/f{i}", os.O_CREAT | os.O_WRONLY, 0o600)
    if i % 8 == 0:
        os.write(fd, b"%d" % i)
    os.close(fd)
PY
ok $? "$FILES files"
umount_it
mount_it memory=${MEMORY_MIB}M
ok $? "mount again"

# Every inode is told to the kernel. Extended attributes it does not keep: each turn asks for them again.
cat >"$tmp/stat.py" <<'PY'
import os, sys
root, n = sys.argv[1], int(sys.argv[2])
bad = 0
for i in range(n):
    path = f"{root}/d{i // 1000}/f{i}"
    st = os.lstat(path)
    bad += st.st_size != (len(str(i)) if i % 8 == 0 else 0) or st.st_nlink != 1
    bad += os.listxattr(path) != []
print(bad)
PY
# Held all the while: a directory and a file, neither open in the daemon's eyes, that lose their names.
mkdir "$mnt/gone" && echo text >"$mnt/gonefile"
python3 - "$mnt" "$tmp" >"$tmp/held" 2>&1 <<'PY' &
import os, sys, time
root, tmp = sys.argv[1], sys.argv[2]
fd = os.open(f"{root}/gonefile", os.O_PATH)
os.chdir(f"{root}/gone")
open(f"{tmp}/holding", "w").close()
while not os.path.exists(f"{tmp}/look"):
    time.sleep(0.05)
st, cwd = os.fstat(fd), os.stat(".")
print(st.st_nlink, st.st_size, cwd.st_nlink, os.listdir("."))
PY
holder=$!
while [ ! -e "$tmp/holding" ] && kill -0 $holder 2>/dev/null; do sleep 0.05; done
same "$(python3 "$tmp/stat.py" "$mnt" $FILES)" 0 "every file as it was made"
rmdir "$mnt/gone" && rm "$mnt/gonefile"
ok $? "two names removed that something holds on to"
same "$(python3 "$tmp/stat.py" "$mnt" $FILES)" 0 "and so the second time"
touch "$tmp/look"
wait $holder
same "$(cat "$tmp/held")" "0 5 0 []" "what was held is there without its name"

known=$(stat_of nodes_known) inodes=$(stat_of icache_inodes) rss=$(rss_mib)
echo "# kernel knows $known, in memory $inodes inodes (at most $INODES_MAX), $rss MiB resident"
[ "$known" -ge $FILES ]
ok $? "the kernel knows all of them"
[ "$inodes" -le $INODES_MAX ]
ok $? "few of them are in memory"
if grep -q __asan_init "$(readlink -f "$IOMAPFS_BIN/iomapfs")" ||
	grep -q __tsan_init "$(readlink -f "$IOMAPFS_BIN/iomapfs")"; then
	skip "resident memory" "a sanitizer takes its own"
else
	# Besides memory=: 80 bytes a known inode, and the program with its threads and buffers.
	[ "$rss" -le $((MEMORY_MIB + FILES * 80 / 1048576 + 24)) ]
	ok $? "resident memory obeys memory="
fi

rm -rf "$mnt"/d*
ok $? "rm -rf"
sync -f "$mnt"
for _ in $(seq 100); do # freed in the background
	[ "$(free_now)" = "$free0" ] && break
	sleep 0.1
	sync -f "$mnt"
done
same "$(free_now)" "$free0" "all space comes back"
umount_it
ok $? "unmount"
fsck_it
done_testing
