#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The control: the same programs and seeds on the kernel's ext4. What fails here is a wrong
# expectation of ours, not a fault of the file system under test.
command -v mkfs.ext4 >/dev/null || { echo "1..0 # skip no mkfs.ext4"; exit 0; }
[ "$(id -u)" = 0 ] || { echo "1..0 # skip needs root"; exit 0; }
e4=$(mktemp -d /tmp/iomapfs-ext4-XXXXXX)
mkdir "$e4/mnt"
truncate -s 512M "$e4/img"
if ! mkfs.ext4 -q -F "$e4/img" || ! mount -o loop "$e4/img" "$e4/mnt" 2>/dev/null; then
	rm -rf "$e4"
	echo "1..0 # skip no loop mount of ext4 here"
	exit 0
fi
export POSIX_DIR=$e4/mnt POSIX_REMOUNT="umount $e4/mnt && mount -o loop $e4/img $e4/mnt"
trap 'umount "$e4/mnt"; rm -rf "$e4"' EXIT
. "$(dirname "$0")/common.sh"
leave() {
	local rc=$?
	cd /
	rm -rf "$dir"
	umount "$e4/mnt" && rm -rf "$e4"
	(exit $rc)
	cleanup
}
trap leave EXIT
cd / # the remount needs a mount that nobody stands in

run_case "fsx on ext4" 10 fsx --seed "$IOMAPFS_SEED" --reopen-cmd "$(remount_cmd)"
run_case "fsstress on ext4" 10 fsstress --seed "$IOMAPFS_SEED" --reopen-cmd "$(remount_cmd)"
done_testing
