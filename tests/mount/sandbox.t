#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What the daemon gives up once it serves, and that all of its work goes on without it.
#
# IOMAPFS_PLAIN_BIN: a build without a sanitizer, the only kind with a system call filter.
: "${IOMAPFS_PLAIN_BIN:=${IOMAPFS_BIN:-}}"
IOMAPFS_BIN=$IOMAPFS_PLAIN_BIN
. "$(dirname "$0")/lib.sh"

pid_of() { iomapctl info --json "$mnt" | python3 -c 'import json,sys; print(json.load(sys.stdin)["pid"])'; }
# Of all its threads, without the kernel's workers for its ring.
status_of() { # PID FIELD
	local task
	for task in /proc/"$1"/task/*; do
		grep -q '^iou-' "$task/comm" || sed -n "s/^$2:[[:space:]]*//p" "$task/status"
	done | sort -u | tr '\n' ' '
}
is_none() { [ "$(status_of "$pid" "$1")" = "0000000000000000 " ]; }
gone() { # PID: within two seconds
	local i
	for i in $(seq 20); do [ -e "/proc/$1" ] || return 0; sleep 0.1; done
	return 1
}

filter=2
if ldd "$IOMAPFS_BIN/mount.iomapfs" | grep -q libasan || ! ldd "$IOMAPFS_BIN/mount.iomapfs" | grep -q libseccomp; then
	filter=0
fi

mkfs_it 128M
mount_it
ok $? "mounted with the default options"
pid=$(pid_of)
for set in CapPrm CapEff CapInh CapAmb; do
	is_none $set
	ok $? "$set of every thread is empty"
done
same "$(status_of "$pid" NoNewPrivs)" "1 " "no thread can gain privileges"
same "$(status_of "$pid" Seccomp)" "$filter " "system calls are filtered as this build can"
[ "$(find /proc/"$pid"/fd -lname '/proc/*' -o -lname '/etc/*' -o -lname '/dev/tty*' -o -lname '/dev/pts/*' | wc -l)" = 0 ]
ok $? "no file is open that serving does not need"

# Everything there is, once.
cp -r /usr/include/linux "$mnt/tree" && diff -r /usr/include/linux "$mnt/tree" >/dev/null
ok $? "a tree is copied and read back"
python3 - "$mnt" <<'PY'
import mmap, os, sys
d = sys.argv[1]
fd = os.open(d + "/f", os.O_RDWR | os.O_CREAT)
os.truncate(fd, 1 << 20)
with mmap.mmap(fd, 1 << 20) as m:
    m[5000:5005] = b"hello"
    m.flush()
os.posix_fallocate(fd, 1 << 20, 1 << 20)
assert os.lseek(fd, 0, os.SEEK_DATA) == 4096
os.copy_file_range(fd, fd, 8192, 0, 1 << 20)
os.setxattr(d + "/f", "user.x", b"y" * 5000)
os.fsync(fd)
direct = os.open(d + "/direct", os.O_RDWR | os.O_CREAT | os.O_DIRECT)
buf = mmap.mmap(-1, 1 << 20)
os.pwrite(direct, buf, 0)
os.preadv(direct, [buf], 0)
os.close(direct)
os.close(fd)
os.remove(d + "/direct")
PY
ok $? "mmap, fallocate, seek, copy, attributes, fsync, direct I/O"
sync -f "$mnt"
ok $? "syncfs"
fstrim "$mnt"
ok $? "fstrim"
mount.iomapfs -o remount,ro "$img" "$mnt" && ! touch "$mnt/x" 2>/dev/null
ok $? "remount to read-only"
mount.iomapfs -o remount,rw,noatime,commit=2 "$img" "$mnt" && touch "$mnt/x"
ok $? "remount to read-write"
iomapctl stats "$mnt" >/dev/null && iomapctl tune -L sandboxed "$mnt" >/dev/null
ok $? "iomapctl"
(head -c 400M /dev/zero >"$mnt/full") 2>/dev/null
[ "$(stat -c %s "$mnt/full")" -gt 1000000 ] && rm "$mnt/full"
ok $? "a full file system"
[ -e "/proc/$pid" ]
ok $? "the daemon lives"
umount_it
ok $? "unmount"
gone "$pid"
ok $? "and the daemon ends"
fsck_it

mount_it
pid=$(pid_of)
kill -TERM "$pid"
gone "$pid" && ! mountpoint -q "$mnt"
ok $? "SIGTERM takes the mount down, by the detacher"

mount_it
pid=$(pid_of)
detacher=$(pgrep -P "$pid")
same "$(cat "/proc/$detacher/comm")" iomapfs-detach "the detacher is the daemon's only child"
same "$(find "/proc/$detacher/fd" -lname "$tmp/*" | wc -l)" 0 "it has nothing of the image open"
kill -9 "$pid"
gone "$detacher"
ok $? "without its daemon it ends"
stat -c %i "$mnt/." >/dev/null 2>&1 && ls "$mnt" >/dev/null 2>&1
[ $? != 0 ] && grep -q " $mnt fuse" /proc/mounts
ok $? "and leaves the dead mount for people to see"
mount_it
ok $? "which the next mount clears away"
umount_it

mount_it nosandbox
pid=$(pid_of)
! is_none CapEff
ok $? "nosandbox: capabilities stay"
same "$(status_of "$pid" NoNewPrivs)$(status_of "$pid" Seccomp)" "0 0 " "nosandbox: so does the rest"
umount_it
if [ $filter = 2 ]; then
	mount_it sandbox=log
	pid=$(pid_of)
	same "$(status_of "$pid" Seccomp)" "2 " "sandbox=log: filtered"
	cp -r /usr/include/linux "$mnt/log"
	ok $? "sandbox=log: works"
	umount_it
	mount_it sandbox
	ok $? "sandbox: or no mount"
	umount_it
else
	fails 2 "system call filter" "a sandbox that is not to be had" mount_it sandbox
	! mountpoint -q "$mnt"
	ok $? "is no mount"
fi
fails 1 "expected sandbox" "an unknown kind of sandbox" mount_it sandbox=maybe
done_testing
