#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A user who is not root: plain FUSE by fusermount3, in a private mount namespace with an open /dev/fuse.
. "$(dirname "$0")/lib.sh"
command -v fusermount3 >/dev/null && [ -u "$(command -v fusermount3)" ] || {
	echo "1..0 # skip fusermount3 is not installed setuid"
	exit 0
}
user=65534
: >"$img"
chown $user "$img" "$mnt" "$tmp"
cp -rL "$IOMAPFS_BIN" "$tmp/bin"
cat >"$tmp/inside" <<'SH'
set -e
# /dev/fuse with mode 0666, for this namespace only.
mkdir -p "$T/dev"
mknod "$T/dev/fuse" c 10 229
chmod 666 "$T/dev/fuse"
mount --bind "$T/dev/fuse" /dev/fuse
exec setpriv --reuid=65534 --regid=65534 --clear-groups sh -e "$T/as_user"
SH
cat >"$tmp/as_user" <<'SH'
cd "$T"
export PATH=$T/bin:$PATH
truncate -s 256M img && mkfs.iomapfs -q img
iomapfs img mnt && echo MOUNTED
grep " $T/mnt fuse.iomapfs .*nosuid,nodev" /proc/mounts >/dev/null && echo NOSUID
dd if=/dev/urandom of=mnt/data bs=1M count=20 2>/dev/null
sha256sum mnt/data >sum
mkdir mnt/dir; ln -s x mnt/dir/l; echo hi >mnt/dir/f
iomapctl info mnt >/dev/null && echo INFO
umount.fuse.iomapfs mnt && echo UNMOUNTED
fsck.iomapfs -n img >/dev/null && echo CLEAN
iomapfs img mnt
sha256sum --quiet -c sum && echo SAME
fusermount3 -u mnt
iomapctl wait --timeout 10 img && echo WAITED
iomapfs img mnt
pid=$(iomapctl info mnt | sed -n 's/^pid *//p')
# The daemon itself could run no set-user-ID program any more.
grep -q '^NoNewPrivs:.*1' "/proc/$pid/status" && echo CONFINED
kill -TERM "$pid"
iomapctl wait --timeout 10 img && ! grep -q " $T/mnt " /proc/mounts && echo TERMINATED
SH
T=$tmp unshare -m --propagation private sh "$tmp/inside" >"$tmp/log" 2>&1
for word in MOUNTED NOSUID INFO UNMOUNTED CLEAN SAME WAITED CONFINED TERMINATED; do
	grep -q "^$word$" "$tmp/log"
	ok $? "rootless: $word"
done
[ $failed = 0 ] || sed 's/^/# /' "$tmp/log"
setpriv --reuid=$user --regid=$user --clear-groups "$tmp/bin/iomapfs" "$img" "$mnt" >"$tmp/log" 2>&1
rc=$?
if [ "$(stat -c %a /dev/fuse)" = 600 ]; then
	same $rc 2 "a closed /dev/fuse: exit code"
	grep -q "chmod 0666 /dev/fuse" "$tmp/log"
	ok $? "a closed /dev/fuse: says what to ask root for"
else
	umount.fuse.iomapfs "$mnt"
	skip "a closed /dev/fuse" "it is open here"
fi
fsck_it
done_testing
