# SPDX-License-Identifier: MIT
# For tests/model/*.t: seed and time of a script, file systems made afresh, one seeded run a case.
# shellcheck shell=bash
. "$(dirname "${BASH_SOURCE[0]}")/../posix/lib.sh"

: "${IOMAPFS_SEED:=$(date +%Y%m%d%H)}"
modes="through writeback none"
echo "# IOMAPFS_SEED=$IOMAPFS_SEED"
for program in fsx fsstress; do
	[ -x "$IOMAPFS_BIN/$program" ] || { echo "Bail out! no $IOMAPFS_BIN/$program: run scripts/bindir"; exit 1; }
done

# seconds_for CASES: a case's share of the script's time; three scripts share a soak.
seconds_for() {
	local total=72
	[ -z "${IOMAPFS_SOAK_MINUTES:-}" ] || total=$((IOMAPFS_SOAK_MINUTES * 60 / 3))
	echo $((total / $1 < 2 ? 2 : total / $1))
}

# fresh MKFS_ARGS MOUNT_OPTIONS: the old mount away and checked, a new one in its place.
fresh() {
	local was=0
	[ -z "${POSIX_DIR:-}" ] || return 0
	cd /
	if mountpoint -q "$mnt"; then
		umount "$mnt" || { umount -l "$mnt"; was=1; }
		"$IOMAPFS_BIN/fsck.iomapfs" -n "$tmp/img" >"$tmp/fsck.log" 2>&1 || was=1
	fi
	[ $was = 0 ] || { ok 1 "the mount before goes and is clean"; sed 's/^/# /' "$tmp/fsck.log" | head -n 40; }
	rm -f "$tmp/img"
	truncate -s "${IMG_SIZE:-256M}" "$tmp/img"
	options=$IOMAPFS_MOUNT_OPTIONS,$2
	# shellcheck disable=SC2086 # both are lists of arguments
	"$IOMAPFS_BIN/mkfs.iomapfs" -q ${MKFS_ARGS:-} $1 "$tmp/img" &&
		"$IOMAPFS_BIN/mount.iomapfs" -o "$options" "$tmp/img" "$mnt" && mkdir "$dir"
}

# What fsx and fsstress run while they have nothing open.
remount_cmd() {
	if [ -n "${POSIX_DIR:-}" ]; then
		echo "${POSIX_REMOUNT:-true}"
	else
		echo "umount $mnt && $IOMAPFS_BIN/mount.iomapfs -o $options $tmp/img $mnt"
	fi
}

# run_case DESCRIPTION SECONDS PROGRAM ARGS...
run_case() {
	local what=$1 seconds=$2 rc
	shift 2
	timeout -k 10 $((seconds + 180)) "$IOMAPFS_BIN/$1" --dir "$dir" --seconds "$seconds" "${@:2}" >"$tmp/log" 2>&1
	rc=$?
	ok $rc "$what"
	sed 's/^#* */# /' "$tmp/log" | if [ $rc = 0 ]; then tail -n 1; else echo "# status $rc"; head -n 200; fi
}
