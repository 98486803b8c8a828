# SPDX-License-Identifier: MIT
# For tests/posix/*.t: a directory on a fresh mount, and `expect`. TAP on standard output.
#
# POSIX_DIR=DIR runs the scripts on another file system (ext4, tmpfs): what they expect is
# what Linux file systems do, not what ours happens to do.
# shellcheck shell=bash
set -u
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
: "${IOMAPFS_BIN:=$here/../../build/asan/bin}"
: "${IOMAPFS_MOUNT_OPTIONS:=defaults}"
n=0

if [ "$(id -u)" != 0 ]; then
	echo "1..0 # skip needs root: other users and devices are part of it"
	exit 0
fi

tmp=$(mktemp -d /tmp/iomapfs-posix-XXXXXX)
mnt=$tmp/mnt
chmod 755 "$tmp"
sys=$tmp/sys
. "$here/../support/sanitizer.sh"

cleanup() {
	local rc=$?
	cd /
	if mountpoint -q "$mnt" 2>/dev/null; then
		umount "$mnt" || umount -l "$mnt"
		if ! "$IOMAPFS_BIN/fsck.iomapfs" -n "$tmp/img" >"$tmp/fsck.log" 2>&1; then
			sed 's/^/# /' "$tmp/fsck.log"
			echo "not ok $((n + 1)) - fsck.iomapfs -n is clean afterwards"
			rc=1
		fi
	fi
	[ -z "${POSIX_DIR:-}" ] || rm -rf "$dir"
	daemons_gone
	if ! no_reports; then
		echo "not ok $((n + 1)) - the daemon has nothing to complain of"
		rc=1
	fi
	rm -rf "$tmp"
	exit $rc
}
trap cleanup EXIT
trap 'exit 1' INT TERM

cc -D_GNU_SOURCE -O1 -w "$here/sys.c" -o "$sys" || { echo "Bail out! sys.c does not compile"; exit 1; }
mkdir "$mnt"
if [ -n "${POSIX_DIR:-}" ]; then
	dir=$(mktemp -d "$POSIX_DIR/posix-XXXXXX")
else
	truncate -s "${IMG_SIZE:-256M}" "$tmp/img"
	# shellcheck disable=SC2086 # MKFS_ARGS is a list of arguments
	"$IOMAPFS_BIN/mkfs.iomapfs" -q ${MKFS_ARGS:-} "$tmp/img" && "$IOMAPFS_BIN/mount.iomapfs" -o "$IOMAPFS_MOUNT_OPTIONS" "$tmp/img" "$mnt" ||
		{ echo "Bail out! no mount"; exit 1; }
	dir=$mnt/t
	mkdir "$dir"
fi
chmod 755 "$dir"
cd "$dir" || exit 1

ok() { # CONDITION-STATUS DESCRIPTION
	n=$((n + 1))
	if [ "$1" = 0 ]; then echo "ok $n - $2"; else echo "not ok $n - $2"; fi
}
skip() { n=$((n + 1)); echo "ok $n - $1 # skip $2"; }

# expect RESULT SYS-ARGUMENTS...: RESULT may be alternatives, "EPERM|EACCES", or a glob.
expect() {
	local want=$1 got
	shift
	got=$("$sys" "$@" 2>&1)
	n=$((n + 1))
	# shellcheck disable=SC2254 # patterns are meant
	case "|$want|" in
	*"|$got|"*) echo "ok $n - $* -> $got" ;;
	*)
		case "$got" in
		$want) echo "ok $n - $* -> $got" ;;
		*)
			echo "not ok $n - $*"
			echo "#   expected $want"
			echo "#        got $got"
			;;
		esac
		;;
	esac
}
get() { "$sys" "$@"; }
same() { # VALUE VALUE DESCRIPTION
	[ "$1" = "$2" ]
	local rc=$?
	ok $rc "$3"
	[ $rc = 0 ] || echo "#   '$1' is not '$2'"
}
# older A B DESCRIPTION: time A < time B
older() {
	awk -v a="$1" -v b="$2" 'BEGIN { exit !(a < b) }'
	ok $? "$3 ($1 < $2)"
}
make() { # TYPE NAME
	case $1 in
	file) get create "$2" 644 ;;
	dir) get mkdir "$2" 755 ;;
	fifo) get mkfifo "$2" 644 ;;
	chr) get mknod "$2" c 644 1 3 ;;
	blk) get mknod "$2" b 644 7 99 ;;
	sock) get bind "$2" ;;
	link) get symlink nowhere "$2" ;;
	esac >/dev/null
}
forget() { rm -rf "$@"; }
done_testing() { echo "1..$n"; }
name255=$(printf 'n%.0s' $(seq 255))
name256=$(printf 'n%.0s' $(seq 256))
tick() { sleep 0.02; } # past the clock's tick that file times use
