# SPDX-License-Identifier: MIT
# For tests/mount/*.t: an image in a private folder, mount_it/umount_it, and TAP. What is left
# mounted at the end is unmounted and must pass fsck.iomapfs -n.
# shellcheck shell=bash
set -u
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
: "${IOMAPFS_BIN:=$here/../../build/asan/bin}"
: "${IOMAPFS_MOUNT_OPTIONS:=defaults}"
PATH=$IOMAPFS_BIN:$PATH
n=0
failed=0
if [ "$(id -u)" != 0 ]; then
	echo "1..0 # skip needs root: loop devices and other users are part of it"
	exit 0
fi
tmp=$(mktemp -d /tmp/iomapfs-mount-XXXXXX)
chmod 755 "$tmp"
img=$tmp/img
mnt=$tmp/mnt
mkdir "$mnt"
. "$here/../support/sanitizer.sh"

cleanup() {
	local rc=$?
	cd /
	while mountpoint -q "$mnt" 2>/dev/null || grep -q " $mnt fuse" /proc/mounts; do
		umount "$mnt" 2>/dev/null || umount -l "$mnt" || break
	done
	daemons_gone
	if ! no_reports; then
		echo "not ok $((n + 1)) - the daemon has nothing to complain of"
		failed=1
	fi
	[ "$failed" = 0 ] || rc=1
	rm -rf "$tmp"
	exit $rc
}
trap cleanup EXIT
trap 'exit 1' INT TERM

ok() { # CONDITION-STATUS DESCRIPTION
	n=$((n + 1))
	if [ "$1" = 0 ]; then echo "ok $n - $2"; else
		failed=1
		echo "not ok $n - $2"
	fi
}
same() { # GOT WANTED DESCRIPTION
	[ "$1" = "$2" ]
	local rc=$?
	ok $rc "$3"
	[ $rc = 0 ] || echo "#   '$1' is not '$2'"
}
fails() { # EXIT-CODE PATTERN DESCRIPTION COMMAND...: it fails so, and says so
	local want=$1 pattern=$2 what=$3 rc
	shift 3
	"$@" >"$tmp/out" 2>&1
	rc=$?
	same "$rc" "$want" "$what: exit code"
	grep -Eq "$pattern" "$tmp/out"
	rc=$?
	ok $rc "$what: says so"
	[ $rc = 0 ] || sed 's/^/#   /' "$tmp/out"
}
skip() { n=$((n + 1)); echo "ok $n - $1 # skip $2"; }
done_testing() { echo "1..$n"; }

mkfs_it() { # SIZE
	rm -f "$img"
	truncate -s "${1:-256M}" "$img" && mkfs.iomapfs -q "$img"
}
mount_it() { # [OPTIONS]
	mount.iomapfs -o "$IOMAPFS_MOUNT_OPTIONS${1:+,$1}" "$img" "$mnt"
}
umount_it() { umount "$mnt"; }
fsck_it() {
	fsck.iomapfs -n "$img" >"$tmp/fsck" 2>&1
	local rc=$?
	ok $rc "fsck.iomapfs -n is clean"
	[ $rc = 0 ] || sed 's/^/# /' "$tmp/fsck"
}
